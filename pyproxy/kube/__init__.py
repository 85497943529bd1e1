"""The Kubernetes API: the way to an apiserver, and its objects as typed state.

`config` finds the apiserver and who we are there. On top of it stand `client`
(requests), `objects` (what we read of each kind), `reflector` and `store` (a kind kept
as it is), `lease` and `events`.
"""
