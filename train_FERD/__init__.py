"""Stage 1 (FERD): the network that is trained, and pruned to the Spe-FEN afterwards.

Read in this order:

1. ``losses``   the three terms of the loss (eqs. 1, 2)
2. ``network``  ``FERD``: frozen encoder, MFFM, decoder, SFAM (Fig. 3)
3. ``stage``    ``Stage1``: the network with its total loss (eq. 3)
4. ``train``    the script: options, data, network, loop

Everything except the options and messages of ``train`` decides the trained bits: whoever changes it must train again.
"""
