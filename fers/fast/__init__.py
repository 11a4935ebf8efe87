"""The same networks, faster: nothing here is needed to understand the method.

Read in this order:

1. ``deploy``    Spe-FEN and Spa-FEN for inference: folded, cut and tiled, equal but for rounding
2. ``bounds``    channels that are zero all over a scene, left out
3. ``training``  folding of frozen batch norms before training, and the layout of a step
4. ``process``   settings of the whole process, which only commands make
5. ``export``    ``fers weights export``: ONNX and ``torch.export``

Change anything here as long as ``tests/test_deploy.py`` and ``tests/test_training_speed.py`` pass: they compare it with the
plain networks.
"""
