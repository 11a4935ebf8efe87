"""Detect anomalies in scenes of your own: a score map, a list of targets, and a page that explains them.

    python detect.py scene.hdr                                  products in results/detect/scene/; open report.html
    python detect.py EMIT_L2A_RFL_....nc --mask auto            clouds left out, by the EMIT mask file beside it
    python detect.py folder/ --common_background                all scenes of a folder against one background
    python detect.py line.hdr --memory 4GB --background segment:1000
    python detect.py line.hdr --plan                            blocks, passes, memory and time; computes nothing
    python detect.py line.hdr --scheduler tcp://10.0.0.1:8786   on a Dask cluster

No training and no download is needed. Files may be larger than the memory. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys

from detection.command import main

if __name__ == "__main__":
    sys.exit(main())
