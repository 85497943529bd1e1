"""What is known about the world, turned into pools; the turning is pure."""
