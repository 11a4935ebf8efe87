"""The one place that scores: a cube becomes a score map.

Read in this order:

1. ``settings``    which cubes a detector sees, and how their maps become one
2. ``config``      what a score map is made with: the options that every command shares
3. ``pipeline``    how a cube, or a stream of its strips, becomes a score map
4. ``networks``    the branches, loaded once, and the cubes made of their features
5. ``fusion_c``    this project's own, and ``fusion_d``, the default of users' scenes; ``spatial`` is Spa-FEN on scenes larger than memory

Every number of every table passes through ``pipeline`` and ``networks``. A change there is a change of results: run
tests/test_one_core.py, test_own_golden.py and test_streaming.py. ``settings`` takes a new row without any other change.
"""
