"""One self-contained HTML page about a comparison: tables to sort, by any measure, and each scene's maps side by side.

It has its pictures inside it and loads nothing, so it can be sent by mail and opened from a disk.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from PIL import Image
from scipy.ndimage import binary_dilation

from fers.comparison.beside import WARNING, beside_rows, is_wanted
from fers.comparison.compared import COSTS
from fers.comparison.figures import first_maps
from fers.comparison.summary import (
    chance_row,
    head_and_rows,
    notes,
    number,
    provenance_line,
    reference_label,
    scene_values,
    standing,
)
from fers.evaluation.figures import RANK_NORM, score_ranks
from fers.evaluation.metrics import MEASURES, auc, objects_of
from fers.util.pictures import data_uri, write_page

if TYPE_CHECKING:
    from fers.comparison.compared import Compared, ComparedScene

_LONGEST_SIDE = 400  # pixels of a map's longer side at most
_COST_TITLES = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "peak_mb": "peak memory, MB"}
_GREY = 150  # of pixels without a score


def write_compare_page(result: Compared, folder: str | Path) -> Path:
    """Write ``compare.html`` about a result into a folder; returns its path."""
    path = Path(folder) / "compare.html"
    chance = chance_row(result)
    measures = [_measure(result, key, chance.get(key)) for key in (*MEASURES, *COSTS)]
    write_page(
        path,
        Path(__file__).with_name("page.html"),
        title="Comparison of hyperspectral anomaly detectors",
        counts=f"{len(standing(result))} detectors, {len(result.scenes)} scenes, {_seeds(result)}",
        overview=head_and_rows(result),
        measures=[measure for measure in measures if measure is not None],
        scenes=[_scene_pictures(result, scene) for scene in result.scenes.values()],
        published=beside_rows(result) if is_wanted(result) else None,
        warning=WARNING,
        failed=[row for row in result.rows if row["auc"] is None],
        notes=notes(result),
        cite=provenance_line(result),
        data=str(result.provenance.get("data", "unknown")),
    )
    return path


def _seeds(result: Compared) -> str:
    seeds = sorted({row["seed"] for row in result.rows})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _measure(result: Compared, key: str, chance: float | None) -> dict[str, Any] | None:
    """Both tables of a measure as text; None where no cell has it."""
    values = scene_values(result, key)
    if not values.notna().any(axis=None):
        return None
    digits = 0 if key.startswith("objects") else 2 if key in COSTS else 4
    against = reference_label(result) is not None
    head = ["detector", "mean", "95 % interval", "worst", "on", "mean rank"]
    head += ["mean less RX", "95 % interval", "p (Holm)", "worst less RX", "on"] * against
    rows = []
    for row in standing(result, key).sort_values("rank", kind="stable").to_dict("records"):
        mean = number(row["mean"], max(digits, 2)) + (
            "" if row["spread"] != row["spread"] else f" ± {row['spread']:.4f}"
        )
        cells = [row["label"], mean, _ends(row["low"], row["high"]), number(row["worst"], digits), row["worst_scene"]]
        cells.append(number(row["rank"], 2))
        if against:
            cells += [_signed(row["gain"], max(digits, 2)), _ends(row["gain_low"], row["gain_high"], "+")]
            cells += [number(row["p_holm"]), _signed(row["loss"], digits), row["loss_scene"]]
        rows.append(cells)
    better = "higher is better" if key in MEASURES and MEASURES[key].higher_is_better else "lower is better"
    return {
        "key": key,
        "title": MEASURES[key].title if key in MEASURES else _COST_TITLES[key],
        "better": better + ("" if chance is None else f"; chance has {chance:.4f}"),
        "standing": (head, rows),
        "scenes": (
            ["detector", *values.columns],
            [
                [label, *(number(v, digits) for v in line)]
                for label, line in zip(values.index, values.to_numpy(), strict=True)
            ],
        ),
    }


def _scene_pictures(result: Compared, scene: ComparedScene) -> dict[str, Any]:
    """Pictures of one scene as addresses, with what stands below each."""
    truth = np.asarray(scene.truth, bool)
    step = -(-max(truth.shape) // _LONGEST_SIDE)
    outline = binary_dilation(truth, np.ones((3, 3))) & ~truth
    ring = np.zeros((*_shrunk(outline, step).shape, 4), np.uint8)
    ring[_shrunk(outline, step) > 0] = (255, 60, 200, 255)
    pictures = []
    if scene.picture is not None:
        pictures.append(("true colour", "", _as_address(scene.picture[::step, ::step])))
    pictures.append(("truth", "", _as_address((_shrunk(truth, step) > 0).astype(np.uint8) * 255)))
    for label, score in first_maps(result, scene.name).items():
        value = auc(score, truth, np.isnan(score))
        pictures.append((label, "no AUC" if value is None else f"AUC {value:.4f}", _as_address(_coloured(score, step))))
    about = [f"{truth.shape[0]} x {truth.shape[1]} px, {int(truth.sum())} anomalous in {objects_of(truth)[1]} objects"]
    about += [f"sensor {scene.sensor}"] if scene.sensor else []
    about += [f"in the catalogue: {scene.known}"] if scene.known else []
    about += [f"group: {scene.group}"] if scene.group else []
    return {"name": scene.name, "about": "; ".join(about), "pictures": pictures, "outline": _as_address(ring)}


def _coloured(score: np.ndarray, step: int) -> np.ndarray:
    """Colours ``(H, W, 3)`` of a score map's ranks; grey where there is no score."""
    ranks = _shrunk(score_ranks(score), step)
    coloured = np.round(colormaps["viridis"](RANK_NORM(np.nan_to_num(ranks, nan=0.5)))[..., :3] * 255).astype(np.uint8)
    coloured[np.isnan(ranks)] = _GREY
    return coloured


def _shrunk(values: np.ndarray, step: int) -> np.ndarray:
    """Highest value of each block of ``step x step`` pixels, so that small objects stay; NaN where there is none."""
    if step == 1:
        return values.astype(float)
    padded = np.full([-(-side // step) * step for side in values.shape], -np.inf)
    padded[: values.shape[0], : values.shape[1]] = np.where(np.isnan(values.astype(float)), -np.inf, values)
    blocks = padded.reshape(padded.shape[0] // step, step, -1, step).max(axis=(1, 3))
    return np.where(np.isinf(blocks), np.nan, blocks)


def _as_address(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=False)
    return data_uri(buffer.getvalue(), "png")


def _ends(low: float, high: float, sign: str = "") -> str:
    return "-" if low != low else f"{low:{sign}.4f} to {high:{sign}.4f}"


def _signed(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:+.{digits}f}"
