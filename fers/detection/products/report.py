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
from fers.detection.products.vector import Record
from fers.detection.targets import RING_REACH
from fers.util.pictures import data_uri, stretched, write_page

SHOWN = 200  # targets with a picture and spectra
FAINTEST = 2.0  # -log10 of the tail probability where the overlay begins
_CURVE_POINTS = 160


def write_report(path: Path, result: Findings, probability: np.ndarray) -> None:
    """Write the page.

    Args:
        path: Ends in .html.
        result: The detection.
        probability: ``(H, W)`` tail probability of its scores.
    """
    height, width = result.score.shape
    spectra = next((record["spectrum"] for record in result.records if record["spectrum"]), None)
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
            "width": width,
            "height": height,
            "x": [] if spectra is None else spectra["x"],
            "unit": "band" if spectra is None or spectra["xUnit"] == "Index" else "nm",
            "targets": [_target(result, record) for record in result.records[:SHOWN]],
            "rest": [[record["row"], record["column"]] for record in result.records[SHOWN:]],
            "curve": threshold_curve(result),
            "scored": result.threshold.pixels,
            "reach": RING_REACH,
        },
        facts=_facts(result),
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


def threshold_curve(result: Findings) -> dict[str, Any]:
    """Compute how often scores exceed a value: counted, by the fitted tail, and, for RX, by the chi-square law.

    The scores are logarithms where they span more than a factor of 100.
    """
    tail = result.tail
    ordered = tail.scores
    low, high = float(np.quantile(ordered, 0.5)), max(float(ordered[-1]), result.threshold.value)
    logarithmic = low > 0 and high > 100 * low
    score = np.geomspace(low, high, _CURVE_POINTS) if logarithmic else np.linspace(low, high, _CURVE_POINTS)
    counted = (len(ordered) - np.searchsorted(ordered, score, side="left")) / len(ordered)
    lines = [{"name": "counted", "y": _logarithms(counted)}]
    if tail.shape is not None:
        fitted = np.where(score > tail.as_score(tail.start), tail.probability(score), np.nan)
        lines.append({"name": "fitted tail", "y": _logarithms(fitted), "dash": "6 4"})
    if result.scene.rank is not None:
        law = stats.chi2.sf(score, result.scene.rank)
        lines.append({"name": "chi-square (nominal)", "y": _logarithms(law), "dash": "2 3"})
    shown = (lambda v: np.log10(np.maximum(v, low))) if logarithmic else np.asarray
    return {
        "score": [float(f"{v:.5g}") for v in shown(score)],
        "threshold": float(shown(result.threshold.value)),
        "logarithmic": logarithmic,
        "lines": lines,
    }


def _logarithms(probability: np.ndarray) -> list[float | None]:
    return [round(float(np.log10(p)), 3) if np.isfinite(p) and p > 1e-8 else None for p in probability]


def _target(result: Findings, record: Record) -> dict[str, Any]:
    keys = ("rank", "score", "far", "pixels", "area_m2", "row", "column", "longitude", "latitude")
    target = {key: record[key] for key in (*keys, "top_wavelengths", "top_shares")}
    target["outline"] = _outline(result, record)
    around = record["_spectra"]
    if around is not None:
        target |= {
            "picture": _image_uri(stretched(around.picture, result.scene.colours), "png"),
            "corner": around.corner,
            "size": around.picture.shape[:2],
            "spectrum": record["spectrum"]["y"],
            "mean": record["background"]["y"],
            "spread": [float(f"{v:.4g}") if np.isfinite(v) else None for v in around.std],
            "shares": [float(f"{v:.3g}") for v in around.shares],
        }
    return target


def _outline(result: Findings, record: Record) -> str:
    """Draw the target's border as an SVG path in pixels of the scene."""
    top, left, bottom, right = [*result.targets, *result.below][record["rank"] - 1].bounds
    inside = (result.labels[top:bottom, left:right] == record["_label"]).astype(np.uint8)
    shapes = features.shapes(inside, mask=inside > 0, connectivity=4, transform=Affine.translation(left, top))
    rings = [ring for shape, _ in shapes for ring in shape["coordinates"]]
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring[:-1]) + "Z" for ring in rings)


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
    ]
    if result.scene.place.crs is not None:
        facts.append(("Coordinates", f"{result.scene.place.crs.to_string()[:80]}; targets in WGS84"))
    else:
        facts.append(("Coordinates", "none in the file; targets have rows and columns, from 0"))
    return facts + [("Note", note) for note in (*about["caveats"], *about["notes"])]


def _image_uri(image: np.ndarray, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return data_uri(buffer.getvalue(), kind)
