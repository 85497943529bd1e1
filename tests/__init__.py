"""The suite. Its scaffolding (conftest, waiting, servers, leaks, netns) is typed."""
