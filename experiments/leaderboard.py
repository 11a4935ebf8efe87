"""The leaderboard of docs/leaderboard.md: what a run of ``fers compare`` found, kept as a table and rendered.

    fers compare --scenes data/ABU,data/scenes --detect ... --save_dir results/leaderboard
    python -m experiments.leaderboard results/leaderboard leaderboard

The second command keeps the cells and their provenance in ``experiments/results``, under the name that it is given;
``make docs`` renders them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import RESULTS
from fers.comparison.beside import WARNING, beside_rows
from fers.comparison.compared import Compared, ComparedScene
from fers.comparison.summary import head_and_rows, notes, number, provenance_line, scene_rows, standing
from fers.datasets.catalogue import CATALOGUE
from fers.evaluation.metrics import MEASURES
from fers.evaluation.statistics import Interval
from fers.evaluation.tables import markdown
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import write_whole

JUDGED = ("auc", "ap", "pd@1e-3", "pd@1e-2")  # measures by which the project's claims are held against RX
PUBLISHED_MOST = 30  # methods of others in the table beside, those with the most scenes


def keep(folder: Path, name: str) -> list[Path]:
    """Keep the cells of a comparison, and how they were made, in ``experiments/results``; return the files.

    Raises:
        FersError: The folder holds no comparison.
    """
    if not (folder / "cells.csv").is_file() or not (folder / "provenance.json").is_file():
        raise FersError(f"{folder}: holds no cells.csv and provenance.json. Give the --save_dir of fers compare.")
    cells = pd.read_csv(folder / "cells.csv", keep_default_na=False)
    paths = RESULTS / f"{name}.csv", RESULTS / f"{name}.json"
    write_whole(paths[0], cells.drop(columns="peak_mb").to_csv(index=False, float_format="%.6g").encode())
    write_whole(paths[1], (folder / "provenance.json").read_bytes())
    return list(paths)


def kept(name: str) -> Compared:
    """Read what ``keep`` kept, without maps. Scenes are those of the catalogue; a truth has only its share of anomalies."""
    cells = pd.read_csv(RESULTS / f"{name}.csv", keep_default_na=False).replace("", None)
    about = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    scenes = {}
    for scene in dict.fromkeys(cells["scene"]):
        known = CATALOGUE[about["scenes"][scene]]
        pixels, anomalies = (known.height or 0) * (known.width or 0), known.anomalies or 0  # known of scenes at hand
        truth = np.arange(pixels)[None] < anomalies
        scenes[scene] = ComparedScene(scene, known.sensor, known.group, known=known.name, truth=truth)
    return Compared(cells.assign(peak_mb=None).to_dict("records"), {}, scenes, about["caveats"], about)


def leaderboard(name: str) -> str:
    """Render the means of every label, and what a reader must know of them."""
    result = kept(name)
    return (
        markdown(*head_and_rows(result)) + "\n" + "".join(f"- {t}\n" for t in [*notes(result), provenance_line(result)])
    )


def claims(name: str) -> str:
    """Render the settings of this project against RX on the cube, by several measures."""
    result, rows = kept(name), []
    for key in JUDGED:
        for row in standing(result, key).to_dict("records"):
            if " " in row["label"] and row["gain"] == row["gain"]:
                interval = Interval(row["gain"], row["gain_low"], row["gain_high"])
                worst = f"{row['loss']:+.4f} ({row['loss_scene']})"
                shown = str(interval) if row["gain_low"] == row["gain_low"] else "-"
                title = MEASURES[key].title
                rows.append([title, row["label"], f"{row['gain']:+.4f}", shown, worst, number(row["p_holm"])])
    return markdown(["measure", "setting", "less RX", "95 % interval", "worst scene", "p (Holm)"], rows)


def scene_by_scene(name: str) -> str:
    """Render the AUC of every label on every scene."""
    return markdown(*scene_rows(kept(name)))


def others(name: str) -> str:
    """Render the numbers of others on the same files, the methods with the most scenes."""
    head, rows = beside_rows(kept(name))
    ranked = sorted(rows, key=lambda row: sum(cell in ("", "-") for cell in row))[:PUBLISHED_MOST]
    return f"{WARNING}\n\n" + markdown(head, [row for row in rows if row in ranked])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        if len(given) != 2:
            raise FersError(
                "python -m experiments.leaderboard FOLDER NAME: give the --save_dir of fers compare and a name."
            )
        for path in keep(Path(given[0]), given[1]):
            print(f"wrote {path}")

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
