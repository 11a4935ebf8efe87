"""report.html: one page that opens from the disk, with everything inside: map, targets, spectra, threshold, provenance."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from PIL import Image
from rasterio import features
from scipy import stats

from fers.detection.findings import Findings
from fers.detection.like import Search
from fers.detection.products.vector import Record
from fers.detection.records import ABOVE
from fers.detection.targets import RING_REACH, Target
from fers.util.pictures import data_uri, stretch_limits, stretched, write_page

TICKABLE = 2000  # targets with an outline, from the highest score; all candidates have one besides
CORNERS = 200_000  # of all outlines of targets together; a page then has some MB
FAINTEST = 2.0  # -log10 of the tail probability where the overlay begins
SHOWN_PLACES = 100  # of a search
_HISTOGRAM_BINS = 90  # of the histogram


def write_report(
    path: Path,
    result: Findings,
    probability: np.ndarray,
    outlines: dict[int, dict[str, Any]],
    found: Search | None = None,
) -> None:
    """Write the page.

    Args:
        path: Ends in .html.
        result: The detection.
        probability: ``(H, W)`` tail probability of its scores.
        outlines: Geometry in WGS84 of each target's label; empty without a georeference.
        found: Search in the scene; None without one.
    """
    height, width = result.score.shape
    spectra = next((record["spectrum"] for record in result.records if record["spectrum"]), None)
    targets, rest = _targets(result, outlines)
    write_page(
        path,
        Path(__file__).with_name("report.html"),
        result=result,
        about=result.about,
        width=width,
        height=height,
        scene=_image_uri(stretched(result.scene.colours), "jpeg", quality=85),
        overlay=_image_uri(overlay(probability, result.scene.thinning), "png"),
        page={
            "name": result.name,
            "width": width,
            "height": height,
            "x": [] if spectra is None else spectra["x"],
            "unit": "band" if spectra is None or spectra["xUnit"] == "Index" else "nm",
            "georeferenced": result.scene.place.known,
            "targets": targets,
            "rest": rest,
            "histogram": score_histogram(result),
            "scored": result.threshold.pixels,
            "reach": RING_REACH,
        },
        facts=_facts(result),
        found=found,
        places=[] if found is None else found.places[:SHOWN_PLACES],
    )


def overlay(probability: np.ndarray, thinning: int) -> np.ndarray:
    """Draw the rarity of scores as a picture to lay over the scene.

    Args:
        probability: ``(H, W)`` tail probability.
        thinning: Each pixel of the picture is the rarest of this many rows and columns.

    Returns:
        ``(h, w, 4)`` uint8, transparent where scores are common.
    """
    height, width = (-(-side // thinning) * thinning for side in probability.shape)
    padded = np.ones((height, width))
    padded[: probability.shape[0], : probability.shape[1]] = np.nan_to_num(probability, nan=1.0)
    rarest = padded.reshape(height // thinning, thinning, width // thinning, thinning).min(axis=(1, 3))
    rarity = -np.log10(rarest)
    strength = np.clip((rarity - FAINTEST) / max(float(rarity.max()) - FAINTEST, 1.0), 0, 1)
    out = np.empty((*strength.shape, 4), np.uint8)
    out[..., 0] = 255
    out[..., 1] = (220 * (1 - strength)).round()
    out[..., 2] = 40
    out[..., 3] = np.where(rarity > FAINTEST, 90 + 165 * strength, 0).round()
    return out


def score_histogram(result: Findings) -> dict[str, Any]:
    """Count the scores in bins of the tail's logarithmic scale, beside what the fitted tail and the chi-square law expect.

    Where scores are positive, the bins are even in their logarithm.
    """
    tail = result.tail
    values = tail.on_scale(tail.scores)
    threshold = float(tail.on_scale(result.threshold.value))
    low = float(np.quantile(values, 0.001))
    high = max(float(values[-1]), threshold, low + 1e-6)
    width = (high - low) / _HISTOGRAM_BINS
    below = int(np.ceil((threshold - low) / width))  # so that the threshold is between two bins
    edges = threshold + width * np.arange(-below, int(np.ceil((high - threshold) / width)) + 2)
    scores = np.array([tail.as_score(edge) for edge in edges])
    lines = []
    if tail.shape is not None:
        expected = -tail.count * np.diff(tail.probability(scores))
        lines.append(
            {"name": "background by the fitted tail", "y": _counts(np.where(edges[:-1] >= tail.start, expected, 0))}
        )
    if result.scene.rank is not None:
        expected = -tail.count * np.diff(stats.chi2.sf(scores, result.scene.rank))
        lines.append({"name": "chi-square law (nominal)", "y": _counts(expected)})
    return {
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "counted": np.histogram(values, edges)[0].tolist(),
        "lines": lines,
        "threshold": threshold,
        "logarithmic": not tail.signed,
    }


def _counts(expected: np.ndarray) -> list[float | None]:
    return [float(f"{number:.4g}") if number > 1e-3 else None for number in expected]


def _targets(result: Findings, outlines: dict[int, dict[str, Any]]) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Describe the targets that can be ticked, and all candidates; return them, and row and column of the others."""
    shown: list[dict[str, Any]] = []
    rest, corners, limits = [], 0, stretch_limits(result.scene.colours)
    for target, record in zip([*result.targets, *result.below], result.records, strict=True):
        if record["status"] == ABOVE and (len(shown) >= TICKABLE or corners > CORNERS):
            rest.append([target.row, target.column])
            continue
        outline = _outline(result.labels, target)
        corners += sum(len(ring) for polygon in outline for ring in polygon)
        shown.append(_target(record, outline, outlines.get(target.label), limits))
    return shown, rest


def _target(
    record: Record, outline: list, shape: dict[str, Any] | None, limits: list[tuple[float, float]]
) -> dict[str, Any]:
    keys = (
        "rank",
        "score",
        "far",
        "expected_false_alarms",
        "pixels",
        "area_m2",
        "row",
        "column",
        "longitude",
        "latitude",
    )
    target = {key: record[key] for key in (*keys, "status", "top_wavelengths", "top_shares")}
    target |= {"outline": outline, "above": record["status"] == ABOVE}
    if shape is not None:
        target["shape"] = {"type": shape["type"], "coordinates": _rounded(shape["coordinates"])}
    read = record["_spectra"]
    if read is not None:
        target |= {
            "picture": _image_uri(stretched(read.picture, limits), "png"),
            "corner": read.corner,
            "size": read.picture.shape[:2],
            "spectrum": record["spectrum"]["y"],
            "mean": record["background"]["y"],
            "spread": [float(f"{v:.4g}") if np.isfinite(v) else None for v in read.std],
            "shares": [float(f"{v:.3g}") for v in read.shares],
        }
    return target


def _outline(labels: np.ndarray, target: Target) -> list:
    """Outline a target in columns and rows of the scene: coordinates of a GeoJSON MultiPolygon."""
    top, left, bottom, right = target.bounds
    inside = (labels[top:bottom, left:right] == target.label).astype(np.uint8)
    shapes = features.shapes(inside, mask=inside > 0, connectivity=4, transform=Affine.translation(left, top))
    return [[[[int(x), int(y)] for x, y in ring] for ring in shape["coordinates"]] for shape, _ in shapes]


def _rounded(part: Any) -> Any:
    """Round coordinates in degrees to a centimetre."""
    return round(part, 7) if isinstance(part, float) else [_rounded(each) for each in part]


def _facts(result: Findings) -> list[tuple[str, str]]:
    """List the provenance of a result for its reader."""
    about, counts, options = result.about, result.about["counts"], result.about["options"]
    weights = (
        options["checkpoint_dir"] or f"never trained (seed {options['seed']}), frozen layers {options['backbone']}"
    )
    facts = [
        (
            "Scene",
            f"{about['source']} · {' × '.join(map(str, about['shape']))}"
            + (f" · {about['sensor']}" if about["sensor"] else ""),
        ),
        ("Method", about["method"] + (f" · network: {weights}" if about["networks"] else "")),
        ("Bands", about["bands_described"]),
        ("Background", f"{options['background']} · {sum(counts['background'])} pixels"),
        ("Pixels", f"{counts['scored']} scored, {counts['without_data']} without data, {counts['left_out']} left out"),
        ("Threshold", about["threshold_described"]),
        *(("Threshold", note) for note in result.notes),
    ]
    if result.scene.place.crs is not None:
        where = "; targets in WGS84" if result.scene.place.known else ", not of the Earth"
        facts.append(("Coordinates", f"{result.scene.place.crs.to_string()[:80]}{where}"))
    else:
        facts.append(("Coordinates", "none in the file; targets have rows and columns, from 0"))
    return facts + [("Note", note) for note in (*about["caveats"], *about["notes"])]


def _image_uri(image: np.ndarray, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return data_uri(buffer.getvalue(), kind)
