"""Test sets to numbers: measures, their uncertainty, tables, figures, pages.

Read in this order: ``metrics`` (score map and truth to numbers), ``results`` (what a run keeps, and reads back),
``evaluate`` (one setting over a test set; ``command`` has its options), ``statistics`` (intervals, tests, ranks), ``published`` (the paper's numbers), ``tables``, ``figures``,
``page`` (one page about finished results; ``report`` is its command).

Safe to touch: ``tables``, ``figures``, ``page`` and its template; nothing is computed there. A change in ``metrics``
or ``statistics`` changes published numbers: tests hold both to scikit-learn, SciPy and closed forms. A change of what
results.json holds needs another ``RESULTS_FORMAT``.
"""
