"""Benchmarks: each prints ratios of things measured in one run, never a bare time."""
