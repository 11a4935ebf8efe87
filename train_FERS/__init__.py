"""Stage 2 (FERS): Spe-FEN frozen as the teacher, Spa-FEN the student that must differ from it.

Read in this order:

1. ``losses``   the five terms of the loss (eqs. 12-16)
2. ``network``  ``FRN``, which decodes H from both features (eq. 9)
3. ``stage``    ``Stage2``: the networks with the total loss (eqs. 10, 11, 16); the cache of the teacher's features
4. ``train``    the script: options, teacher, data, networks, loop

Everything except the options and messages of ``train`` decides the trained bits: whoever changes it must train again.
"""
