"""The paper's baselines that are trained on background: RD4AD, a detector, and AETNet, which enhances cubes.

Read in this order:

1. ``train``   the command ``python -m baselines.train rd4ad|aetnet``, its options and defaults
2. ``rd4ad``   loss of RD4AD; its networks are ``fers.networks.rd4ad``, its score ``fers.detectors.rd4ad``
3. ``aetnet``  random masks and loss of AETNet; its network is ``fers.networks.aetnet``, its score ``fers.detectors.aetnet``

Networks, losses, masks and defaults decide the trained bits: leave them, or train again. A further baseline is a ``Stage`` in a
file here and a row of ``train.BASELINES``.
"""
