"""Benchmarks: one module per layer, each printing ratios to peers of the same run."""
