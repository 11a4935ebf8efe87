"""Scenes of any size: from a file to a score map, targets with their places, and a page that explains them.

Read in this order:

1. ``options``, ``command``   what a user can ask; ``detect`` and ``several`` are its two doors, for one scene and for many
2. ``scene_run``              one scene from its reader to what is found in it
3. ``blocks``, ``job``        how it is cut into strips, and how a strip becomes what ``fers.scoring.pipeline`` takes
4. ``streaming``, ``store``   the passes over all strips, and what is kept of each for a run that is stopped
5. ``thresholds``, ``targets``, ``records``, ``findings``   from scores to targets
6. ``products``, ``result``   the files, and the result in Python
7. ``kept``, ``reopen``       a finished result, opened again for another threshold
8. ``search``, ``like``, ``known``   the step after: where else is this spectrum, and what is known already

Nothing here computes a score: that is the pipeline's. What ``streaming`` adds up, and in which order, decides the bits of every
result, and ``scene_run.VERSION`` rises with it. Products, records and the report may be touched freely; tests read them back.
"""
