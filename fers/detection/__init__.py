"""Detection in scenes of any size: strips, thresholds, targets, and the products that are written.

Read ``scene_run`` first, then ``streaming`` and ``job`` (the passes over a scene), then ``findings`` and ``result``.
"""
