"""The yardstick of docs/beyond.md: what a setting finds at few false alarms, held against another, scene by scene.

    fers compare --scenes data/ABU,data/scenes --detect RX --settings original,untrained-C ... --save_dir results/objects
    python -m experiments.leaderboard results/objects objects

``yardstick`` renders what the second command keeps. The measures were fixed before any setting was tried.
"""

from __future__ import annotations

import pandas as pd

from experiments.leaderboard import kept
from fers.comparison.summary import scene_values
from fers.evaluation.metrics import MEASURES
from fers.evaluation.statistics import mean_interval
from fers.evaluation.tables import markdown

YARDSTICK = ("objects@100", "objects@1000", "ap", "pd@1e-3", "pd@1e-2", "auc")


def against(values: pd.DataFrame, reference: str, groups: list[str]) -> pd.DataFrame:
    """Compare labels with one of them by one measure, scene by scene.

    Args:
        values: A row for each label, a column for each scene; means over seeds.
        reference: Label that the others are compared with.
        groups: Place of each scene, empty for a place of its own: scenes of one place are resampled together.

    Returns:
        A row for each label: ``mean``, ``difference`` to the reference in the mean, its 95 % interval ``low`` to
        ``high`` (NaN for none), and ``worst`` with ``worst_scene``: the difference on the scene where it does worst.
    """
    rows = []
    for label, of_label in values.iterrows():
        difference = of_label - values.loc[reference]
        interval = mean_interval(difference.to_numpy(), groups=groups)
        rows.append(
            {
                "label": label,
                "mean": of_label.mean(),
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "worst": difference.min(),
                "worst_scene": difference.idxmin(),
            }
        )
    return pd.DataFrame(rows).set_index("label").astype({"low": float, "high": float})


def yardstick(name: str, reference: str) -> str:
    """Render what a kept comparison says by ``YARDSTICK``: sums for objects, means for the others, and differences."""
    result, rows = kept(name), []
    groups = [scene.group for scene in result.scenes.values()]
    for key in YARDSTICK:
        values = scene_values(result, key)
        times, digits = (values.shape[1], 1) if key.startswith("objects") else (1, 4)
        for label, row in against(values, reference, groups).iterrows():
            shown = [row["difference"], row["low"], row["high"]]
            gain, low, high = (f"{times * number:+.{digits}f}" for number in shown)
            rest = [gain, f"{low} to {high}", f"{row['worst']:+.{digits}f} ({row['worst_scene']})"]
            rest = rest if label != reference else ["-"] * 3
            rows.append([MEASURES[key].title, label, f"{times * row['mean']:.{digits}f}", *rest])
    head = ["measure", "setting", "sum or mean", f"less {reference}", "95 % interval", "worst scene"]
    return markdown(head, rows)
