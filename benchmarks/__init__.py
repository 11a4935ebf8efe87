"""How fast the product is, against a plain reference in the same run: ``python -m benchmarks.bench``."""
