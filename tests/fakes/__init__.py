"""Stand-ins for the world around the proxy."""
