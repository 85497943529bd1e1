"""What to do with a request: filters, routes, credentials, static files, tunnels.

Policies are pure: a question and what is known in, a verdict out. What needs a socket
(`static`, `tunnel`) stands apart. Nothing here knows a kubeconfig.
"""
