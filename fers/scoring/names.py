"""The names that command lines offer, at hand without PyTorch. ``tests/test_startup.py`` holds them to the tables."""

FEATURES = ("original", "untrained", "spectral", "spatial", "fused", "aetnet")
FUSIONS = ("A", "B", "C")  # the rows fused-* of fers.scoring.views.VIEWS
PRECISIONS = ("fp32", "bf16")  # the keys of fers.scoring.networks.PRECISIONS
DETECTORS = ("RX", "AE", "LRX", "KRX", "CRD", "2S-GLRT", "LRX-PC", "Auto-AD", "LREN")  # the keys of detectors.DETECTORS
