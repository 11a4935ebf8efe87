"""A comparison in figures: means, intervals, worst scenes, ranks and tests of each detector, as frame and as text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fers.comparison.beside import WARNING, beside_rows, is_wanted
from fers.comparison.compared import COSTS, Compared
from fers.evaluation.metrics import ALARMS_PER_MEGAPIXEL, MEASURES, chance_levels
from fers.evaluation.statistics import FEWEST, TOO_FEW, Interval, compare_methods, least_p, mean_interval
from fers.evaluation.tables import latex, markdown
from fers.util.cite import citation

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.05
_FOUND = [f"objects@{rate}" for rate in ALARMS_PER_MEGAPIXEL]
_WIDE = 20  # scenes that a table scene by scene may have as columns


def scene_values(result: Compared, key: str) -> pd.DataFrame:
    """Values of a measure or cost, a row for each label and a column for each scene; means over seeds, NaN if missing."""
    table = result.table()
    values = table.groupby(["label", "scene"], sort=False)[key].mean().unstack("scene")
    return values.reindex(index=table["label"].unique(), columns=list(result.scenes))


def reference_label(result: Compared) -> str | None:
    """Label of RX on the cube as it is, which others are held against; None where it was not run."""
    return next(
        (row["label"] for row in result.rows if row["detector"] == "RX" and row["setting"] in ("", "original", None)),
        None,
    )


def standing(result: Compared, key: str = "auc") -> pd.DataFrame:
    """Compare the labels by one measure, a row for each, in their order.

    Returns:
        ``mean`` over the ``scenes`` that it has a finite value of; ``low`` and ``high``, the 95 % interval of the mean,
        NaN where there are too few scenes or one is missing; ``spread``, the standard deviation over seeds of the mean;
        ``worst`` and ``worst_scene``; ``rank``, the mean rank over scenes among the labels that have every scene;
        ``gain`` over RX in the mean, with ``gain_low`` and ``gain_high``; ``loss`` and ``loss_scene``, the difference on
        the scene where it does worst against RX; ``p``, exact and two-sided of Wilcoxon's test against RX, and
        ``p_holm``, for all labels that are tested. Columns are NaN or empty where they do not apply.
    """
    sign = 1 if key in MEASURES and MEASURES[key].higher_is_better else -1
    values = scene_values(result, key)
    values = values.loc[:, values.notna().any()]
    groups = [result.scenes[name].group for name in values.columns]
    complete = values.dropna()
    ranks = (-sign * complete).rank(axis=0).mean(axis=1) if values.shape[1] else pd.Series(dtype=float)
    reference = reference_label(result)
    rx = values.loc[reference] if reference is not None else pd.Series(np.nan, index=values.columns)
    spread, tests = _spread(result, key), _tests(complete, reference)
    rows = []
    for label, of_label in values.iterrows():
        found = sign * of_label.dropna()
        against = of_label - (rx if label != reference else np.nan)
        bounds = MEASURES[key].bounds if key in MEASURES else (0, None)
        interval, gain = _interval(of_label, groups, bounds), _interval(against, groups)
        against = sign * against.dropna()
        rows.append({
            **{"label": label, "mean": sign * found.mean(), "low": interval.low, "high": interval.high},
            **{"scenes": len(found), "spread": spread.get(str(label))},
            **{"worst": sign * found.min(), "worst_scene": found.idxmin() if len(found) else ""},
            **{"rank": ranks.get(label), "gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high},
            **{"loss": sign * against.min(), "loss_scene": against.idxmin() if len(against) else ""},
            **dict(zip(("p", "p_holm"), tests.get(str(label), (None, None)), strict=True)),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    numbers = frame.columns.difference(["label", "worst_scene", "loss_scene", "scenes"])
    return frame.astype(dict.fromkeys(numbers, float))


def _tests(complete: pd.DataFrame, reference: str | None) -> dict[str, tuple[float, float]]:
    """Wilcoxon's p and Holm's of each label against the reference; empty where there is nothing to test."""
    testable = len(complete) > 1 and complete.shape[1] > 0 and np.isfinite(complete.to_numpy()).all()
    if reference is None or reference not in complete.index or not testable:
        return {}
    pairs = compare_methods({str(label): row.to_numpy() for label, row in complete.iterrows()}, reference)
    return {pair.second if pair.first == reference else pair.first: (pair.p, pair.p_holm) for pair in pairs}


def _interval(
    values: pd.Series, groups: Sequence[str], bounds: tuple[float | None, float | None] = (None, None)
) -> Interval:
    """Mean of the values that are there, with an interval only where all of them are, and finite."""
    if len(values) and np.isfinite(values).all():
        return mean_interval(values.to_numpy(), groups=groups, bounds=bounds)
    return Interval(float(values.mean()), None, None)


def _spread(result: Compared, key: str) -> dict[str, float]:
    """Standard deviation over seeds of a label's mean over scenes; of labels with several seeds."""
    means = result.table().groupby(["label", "seed"])[key].mean().groupby("label")
    return means.std()[means.count() > 1].to_dict()


def summary(result: Compared) -> pd.DataFrame:
    """One row for each label, the best mean rank by AUC first.

    Returns:
        ``label``; the columns of ``standing`` by AUC, ``mean`` under the name ``auc``; the mean over scenes of each other
        measure under its key, but for objects, found and there are, the sum; the mean of ``seconds``, ``cpu_seconds``,
        ``peak_mb``; and ``of``, how many scenes there are.
    """
    table = standing(result).rename(columns={"mean": "auc"}).set_index("label")
    for key in [*MEASURES, *COSTS]:
        if key != "auc":
            values = scene_values(result, key)
            table[key] = values.sum(axis=1, min_count=1) if "objects" in key else values.mean(axis=1)
    table["of"] = len(result.scenes)
    return table.reset_index().sort_values(["rank", "auc"], ascending=[True, False], kind="stable", ignore_index=True)


def chance_row(result: Compared) -> dict[str, float]:
    """Chance level of each measure that has one: the mean over scenes."""
    levels = [chance_levels(scene.truth, scene.left_out) for scene in result.scenes.values() if scene.truth is not None]
    return pd.DataFrame(levels).mean().to_dict() if levels else {}


def notes(result: Compared) -> list[str]:
    """Sentences that belong under every table of the result."""
    found = standing(result)
    count = len(result.scenes)
    valued = scene_values(result, "auc").notna().any()
    groups = {result.scenes[name].group or name for name in valued.index[valued]}
    told = [*result.caveats]
    missing = [f"{row.label} ({row.scenes} of {count})" for row in found.itertuples() if row.scenes < count]
    if missing:
        told.append(
            f"Means over fewer scenes: {', '.join(missing)}. Labels that lack a scene have no rank and are not tested."
        )
    shared = {
        group: n
        for group, n in Counter(scene.group for scene in result.scenes.values() if scene.group).items()
        if n > 1
    }
    if shared:
        which = "; ".join(f"{group} ({n} scenes)" for group, n in shared.items())
        told.append(f"Scenes that share pixels or a flight line are resampled together: {which}.")
    if len(groups) < FEWEST:
        told.append(f"No interval of a mean: {TOO_FEW}; fewer than {FEWEST} groups have none whose coverage holds.")
    tests = max(int(found["rank"].notna().sum()) - 1, 0)
    if tests and reference_label(result) is not None and (least := least_p(int(valued.sum()), tests)) >= LEVEL:
        told.append(
            f"No difference can be significant: of {int(valued.sum())} scenes and {tests} tests the least p is {least:.3g} "
            "(Wilcoxon's signed ranks, Holm)."
        )
    told.append("AUC(D,tau) and AUC(F,tau) are exact means; programs that sum trapezoids print slightly more.")
    return told


def head_and_rows(result: Compared) -> tuple[list[str], list[list[str]]]:
    """Table of the labels as text: its head, and its rows, the last of which is chance."""
    table, chance, count = summary(result), chance_row(result), len(result.scenes)
    keys = ["ap", "pd@1e-3", "pd@1e-2"]
    titles = [MEASURES[key].title for key in keys]
    against = reference_label(result) is not None
    head = ["detector", "AUC(D,F)", "95 % interval", "worst scene", "mean rank"]
    head += ["worst against RX"] * against + [*titles, *_FOUND, "s", "CPU s", "scenes"]
    rows = []
    for row in table.to_dict("records"):
        spread = f" ± {row['spread']:.4f}" if row["spread"] == row["spread"] else ""
        interval = str(Interval(row["auc"], row["low"], row["high"])) if row["low"] == row["low"] else "-"
        cells = [row["label"], f"{number(row['auc'])}{spread}", interval, _on_scene(row["worst"], row["worst_scene"])]
        cells.append(number(row["rank"], 2))
        if against:
            cells.append(_on_scene(row["loss"], row["loss_scene"], "+"))
        cells += [number(row[key]) for key in keys]
        cells += [f"{row[key]:g}/{row['objects']:g}" if row[key] == row[key] else "-" for key in _FOUND]
        rows.append([*cells, number(row["seconds"], 2), number(row["cpu_seconds"], 2), f"{row['scenes']} of {count}"])
    if chance:
        cells = ["chance", number(chance["auc"]), *["-"] * (3 + against), *(number(chance[key]) for key in keys)]
        rows.append([*cells, *["-"] * (len(head) - len(cells))])
    return head, rows


def difference_rows(result: Compared) -> tuple[list[str], list[list[str]]]:
    """Table of the differences to RX by AUC as text; no rows where RX was not run."""
    head = ["less RX, AUC(D,F)", "mean", "95 % interval", "p", "p (Holm)"]
    rows = []
    for row in summary(result).to_dict("records"):
        if row["gain"] == row["gain"]:
            interval = (
                f"{row['gain_low']:+.4f} to {row['gain_high']:+.4f}" if row["gain_low"] == row["gain_low"] else "-"
            )
            rows.append([row["label"], f"{row['gain']:+.4f}", interval, number(row["p"]), number(row["p_holm"])])
    return head, rows


def scene_rows(result: Compared, key: str = "auc") -> tuple[list[str], list[list[str]]]:
    """Table scene by scene of one measure as text; the smaller of scenes and labels are the columns if scenes are many."""
    values = scene_values(result, key)
    if values.shape[1] > _WIDE:
        values = values.T
    rows = [
        [str(name), *(number(value) for value in line)]
        for name, line in zip(values.index, values.to_numpy(), strict=True)
    ]
    return ["", *map(str, values.columns)], rows


def summary_markdown(result: Compared) -> str:
    """The tables and notes of a result as Markdown."""
    parts = [_markdown(*head_and_rows(result))]
    head, rows = difference_rows(result)
    if rows:
        parts.append(_markdown(head, rows))
    parts.append(f"{MEASURES['auc'].title}, scene by scene:\n\n{_markdown(*scene_rows(result))}")
    failed = [f"- {row['label']} on {row['scene']}: {row['note']}\n" for row in result.rows if row["auc"] is None]
    if failed:
        parts.append(f"Without a value:\n\n{''.join(dict.fromkeys(failed))}")
    if is_wanted(result):
        parts.append(f"{WARNING}\n\n{_markdown(*beside_rows(result))}")
    parts.append("".join(f"- {text}\n" for text in [*notes(result), provenance_line(result)]))
    return "\n".join(parts)


def summary_latex(result: Compared) -> str:
    """The tables of a result as LaTeX; needs the packages booktabs and graphicx."""
    means = latex(*head_and_rows(result), "Means over scenes.", "compare", [*notes(result), provenance_line(result)])
    scenes = latex(*scene_rows(result), f"{MEASURES['auc'].title}, scene by scene.", "compare-scenes")
    return f"{means}\n{scenes}"


def provenance_line(result: Compared) -> str:
    """Say by which version, command and data the result was made: what a reader needs to cite or repeat it."""
    about = result.provenance
    further = {key: about.get(key) for key in ("machine", "threads")}
    return citation(about.get("command", ""), about.get("data", ""), about.get("version", "unknown"), **further)


def number(value: float | None, digits: int = 4) -> str:
    """A number as text: ``-`` if it is missing, ∞ if it is infinite."""
    if value is None or value != value:
        return "-"
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def _on_scene(value: float, scene: str, sign: str = "") -> str:
    return "-" if value != value else f"{value:{sign}.4f} ({scene})"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def escaped(text: str) -> str:
        return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

    return markdown([escaped(text) for text in head], [[escaped(text) for text in row] for row in rows])
