"""Tools of the tests; no tests. What stands in for the world is in tests/fakes."""
