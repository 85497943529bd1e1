"""Services, slices and a node as a table."""
