"""Numbers that others have published, beside ours: only of scenes whose cube and truth are the very same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from fers.evaluation import published

if TYPE_CHECKING:
    from fers.comparison.compared import Compared

WARNING = (
    "Published by others on the same files, each by its own protocol. They are no part of the ranking: methods that are "
    "trained or tuned on a scene, or whose best seed is printed, do not compare with one fixed setting."
)
_COLUMNS = ["scene", "method", "published", "ours", "source", "year", "url", "protocol", "note"]


def published_beside(result: Compared) -> pd.DataFrame:
    """Find the published AUCs of the result's scenes; a scene is known by the values of its cube and truth, not by name.

    Returns:
        A row for each number, by scene, source and method: ``scene`` as the result names it; ``method``; ``published``;
        ``ours``, our AUC there of the detector of the same name on the cube as it is, NaN if there is none; ``source``, ``year``, ``url``;
        ``protocol``, how the method was set and trained; ``note``.
    """
    known: dict[str, list[str]] = {}
    for name, scene in result.scenes.items():
        if scene.known:
            known.setdefault(scene.known, []).append(name)
    table = result.table()
    plain = table[table["setting"].isin(["original", ""])]  # the detector by itself, as others run it
    means = plain.groupby(["detector", "scene"])["auc"].mean()
    ours = {(str(detector).lower(), scene): value for (detector, scene), value in means.items()}
    rows = [
        {
            **{key: row[key] for key in ("method", "source", "year", "url", "protocol", "note")},
            **{"scene": name, "published": row["auc"]},
            "ours": ours.get((row["method"].lower(), name), float("nan")),
        }
        for row in published.published_per_scene()
        for name in known.get(row["scene"], ())
    ]
    order = {name: place for place, name in enumerate(result.scenes)}
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    return frame.sort_values(
        ["scene", "source", "method"], key=lambda c: c.map(order) if c.name == "scene" else c, ignore_index=True
    )


def beside_rows(result: Compared) -> tuple[list[str], list[list[str]]]:
    """Table of the published numbers as text: a row for each source, method and protocol, a column for each scene.

    Where a detector of ours has the same name, its AUC follows in brackets.
    """
    frame = published_beside(result)
    scenes = list(dict.fromkeys(frame["scene"]))
    rows = []
    for (source, year, method, protocol), part in frame.groupby(["source", "year", "method", "protocol"], sort=True):
        cells = dict.fromkeys(scenes, "-")
        for row in part.itertuples():
            both = f"{row.published:.4f}" + ("" if row.ours != row.ours else f" (ours {row.ours:.4f})")
            cells[row.scene] = both if cells[row.scene] == "-" else f"{cells[row.scene]}, {both}"
        rows.append([f"{method}, {source} {year}", *cells.values(), protocol])
    return ["published by others", *scenes, "protocol"], rows


def is_wanted(result: Compared) -> bool:
    """Tell whether the comparison was asked to set published numbers beside its own."""
    return result.provenance.get("against") == "published"
