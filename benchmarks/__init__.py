"""Benchmark of the product against a plain reference in the same run: ``python -m benchmarks.bench``."""
