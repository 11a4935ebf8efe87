"""Data sets: which scenes there are, and how they are fetched, prepared, checked and made up.

In reading order:

- ``benchmarks``: the test sets by name; a new one is one row. ``abu`` and ``had100`` find their scenes in a folder.
- ``archive`` fetches, checks and unzips what was published (``published.csv``); ``download`` is its command.
- ``had100.prepare`` unpacks HAD100, and checks such a folder.
- ``patches``: training patches, cut from scenes and read for training.
- ``manifest``: what each file of a data set holds; all that write patches write one, and training reads it.
- ``synthetic``: a benchmark made from a seed.

A new data set is a module with ``scenes()`` and a row of ``BENCHMARKS``. The format of the manifest, the crops and bands of
``had100``, and every draw of random numbers in ``synthetic`` must stay: data and tests on disk depend on them.
"""
