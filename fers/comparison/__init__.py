"""Detectors x settings x scenes x seeds by one protocol, as one table.

Read in this order: ``compared`` and ``result`` (what a comparison gives), ``compare`` (the whole of it), ``places`` (the scenes),
``contenders`` (the detectors), ``cells`` (one score, kept), ``maps`` (score maps that others made), ``command``
(``fers compare``). What a table, a figure or a page shows of a result stands in ``summary``, ``figures``, ``page`` and
``beside``.
"""
