"""A first look at the values of a scene: bands without data, values that may mean no data, saturation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fers.scenes.readers import Reader
from fers.scenes.readers.base import marked_samples
from fers.scenes.scene import Scene, row_blocks

_LOOKED_AT = 1 << 23  # samples, in windows of rows that are spread over a larger scene
_WINDOWS = 8
_MANY_SAMPLES = 0.01  # share of the pixels that makes one value in all bands worth a word
_FULL_PIXELS, _FULL_BANDS = 5, 3  # so many pixels are at their highest value in so many bands: fewer are chance


@dataclass(frozen=True)
class Survey:
    """Findings of a look at some bands of a scene."""

    empty: np.ndarray  # numbers of those that have data in no pixel, from 0
    notes: tuple[str, ...]  # what the user should know


def survey(source: Scene | Reader, bands: np.ndarray) -> Survey:
    """Look at some bands of a scene, by number from 0; of a large one at rows that are spread over it.

    A band that looks empty is then read whole: none is called empty that has data anywhere.
    """
    blocks, marks = [], []
    for rows in _windows(source, len(bands)):
        block = _samples_of(source, rows, bands)
        missing = _missing(block, source.nodata)
        inside = ~missing.all(axis=2)
        blocks.append(block[inside])
        marks.append(missing[inside])
    values, missing = np.concatenate(blocks), np.concatenate(marks)
    if len(values) == 0:
        return Survey(bands[:0], ())
    lacking = missing.mean(axis=0)
    empty = _confirmed(source, bands[lacking == 1])
    left = ~np.isin(bands, empty)
    whole = ~missing[:, left].any(axis=1)
    if not whole.any():
        return Survey(empty, (_gaps(lacking[left], bands[left] + 1),) if left.any() else ())
    values = values[:, left][whole]
    outside, notes = _one_value(values)
    return Survey(empty, (*notes, *_saturated(values[~outside])))


def _windows(source: Scene | Reader, bands: int) -> list[slice]:
    """All rows of a small scene; windows over a large one, as few as its chunks make cheap."""
    height, width, _ = source.cube.shape if isinstance(source, Scene) else source.shape
    rows = max(1, _LOOKED_AT // (width * bands))
    if rows >= height:
        return [slice(0, height)]
    count = _WINDOWS
    if isinstance(source, Reader) and source.start is None:
        count = max(1, min(count, height // source.native_chunks[0]))
    each = max(1, rows // count)
    return [slice(start, start + each) for start in np.linspace(0, height - each, count).astype(int).tolist()]


def _samples_of(source: Scene | Reader, rows: slice, bands: np.ndarray) -> np.ndarray:
    return source.read(rows, bands) if isinstance(source, Reader) else np.asarray(source.cube[rows][:, :, bands])


def _missing(block: np.ndarray, nodata: tuple[float, ...]) -> np.ndarray:
    marked = marked_samples(block, nodata)
    return marked | ~np.isfinite(block) if block.dtype.kind == "f" else marked


def _confirmed(source: Scene | Reader, empty: np.ndarray) -> np.ndarray:
    """Keep, of the bands that look empty, those that are in every row."""
    shape = source.cube.shape if isinstance(source, Scene) else source.shape
    for rows in row_blocks((*shape[:2], max(1, len(empty)))):
        if len(empty):
            empty = empty[_missing(_samples_of(source, rows, empty), source.nodata).all(axis=(0, 1))]
    return empty


def _gaps(lacking: np.ndarray, numbers: np.ndarray) -> str:
    """The bands that leave no pixel whole."""
    worst = np.argsort(-lacking, kind="stable")[:5]
    shown = ", ".join(f"{numbers[band]} in {lacking[band]:.0%}" for band in worst)
    return (
        f"no pixel looked at has data in all bands. Most lack it bands {shown} (bands are counted from 1). Leave such bands "
        f"out, as in --bands all,-{numbers[worst[0]]}"
    )


def _one_value(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Find pixels that hold one value in every band, as many others do, and count: no one says that it means no data."""
    same = (values == values[:, :1]).all(axis=1) & (values.shape[1] > 1)
    found, counts = np.unique(values[same, 0], return_counts=True)
    many = counts > _MANY_SAMPLES * len(values)
    return same & np.isin(values[:, 0], found[many]), [
        f"{count / len(values):.0%} of the pixels looked at hold {value:g} in every band and count as background. "
        f"If that means no data, give --nodata {value:g}"
        for value, count in zip(found[many].tolist(), counts[many].tolist(), strict=True)
    ]


def _saturated(values: np.ndarray) -> list[str]:
    """Pixels that share the highest value of several bands, as a detector that is full gives it."""
    if len(values) == 0:
        return []
    highest = values.max(axis=0)
    top = values == highest
    counts = top.sum(axis=0)
    top[:, (counts < _FULL_PIXELS) | (2 * counts > len(values))] = (
        False  # one highest pixel, or a band that is constant
    )
    full = int((top.sum(axis=1) >= _FULL_BANDS).sum())
    if full < _FULL_PIXELS:
        return []
    level = np.unique(highest[top.any(axis=0)])
    shown = f"{level[0]:g}" if len(level) == 1 else f"{level[0]:g} to {level[-1]:g}"
    return [
        f"{full} of the pixels looked at share the highest value, {shown}, of {_FULL_BANDS} or more bands: saturated?"
    ]
