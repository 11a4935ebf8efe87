"""Training that both stages and the baselines share. It needs ``pip install 'fers-had[train]'``.

Read in this order:

1. ``options``, ``launch``  every option of a training script, and how a script starts and ends
2. ``recipe``   the two recipes, and the names of the losses' terms
3. ``stage``    ``Stage``: networks with their loss, which the loop trains
4. ``run``      ``TrainRun``: data, folder and checkpoint of a run; the scorer of ``--select test-auc``
5. ``loop``     ``Trainer``: the only training loop
6. ``resume``, ``log``, ``device``  the run's folder and ``last.pt``, its curves, its device

A new option is a field of ``TrainOptions`` and its use. ``loop``, ``stage``, ``recipe`` and the losses decide the trained
bits: whoever changes them must train again. A resumed run must give the same bits (``tests/test_resume.py``).
"""
