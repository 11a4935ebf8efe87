"""Measured and published numbers, and the tables that the documents show of both.

Read in this order: rows.py (the paper's tables as settings, and a request), jobs.py (networks to train, settings to score),
plan.py (what they take, and the loop that does what is missing), costs.py (measures what they take), tables.py and cells.py
(numbers, and their Markdown, CSV, LaTeX), targets.py (what ``reproduce.py`` can be asked for). staleness.py says which code a
result depends on; a change of it makes the result again. explain.py and gaussianity.py are what the paper shows as pictures.
coverage.py is a simulation of the intervals. rehearsal.py runs the paper's commands on a stand-in for HAD100 (standin.py).
render.py is README.md and docs/.

Safe to change: docstrings and comments anywhere, and everything here but jobs.py's keys. results/ is written by commands,
never by hand.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # of the checkout
RESULTS = ROOT / "experiments" / "results"  # what README.md and docs/ are rendered from
