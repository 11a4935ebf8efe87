"""Fusion D: its opening by brute force, its formula, blocks against the whole, pixels that do not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.detectors.background import Background
from fers.detectors.base import Where
from fers.scoring import fusion_c
from fers.scoring.config import DetectConfig
from fers.scoring.fusion_d import LENGTH, LogDistancesAndContrast, join_in_contrast, line_contrast, line_opening
from fers.scoring.pipeline import Pipeline

HALF = {(0, 1): 10, (1, 0): 10, (1, 1): 7, (1, -1): 7}  # px to both sides of a line's centre, for each step along it


def brute_force(x: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """The largest over all lines through a pixel of the lowest value on them, line by line."""
    opened = np.full(x.shape, -np.inf)
    for (down, across), half in HALF.items():
        for row, column in np.ndindex(x.shape):
            line = [(row + k * down, column + k * across) for k in range(-half, half + 1)]
            line = [at for at in line if 0 <= at[0] < x.shape[0] and 0 <= at[1] < x.shape[1]]
            counted = [x[at] for at in line if not left_out[at]]
            for at in line if counted else ():
                opened[at] = max(opened[at], min(counted))
    return opened


@pytest.mark.parametrize("shape", [(31, 26), (9, 40)])
def test_opening_is_the_highest_level_that_a_line_through_the_pixel_keeps(shape) -> None:
    rng = np.random.RandomState(0)
    x, left_out = rng.rand(*shape), rng.rand(*shape) < 0.2
    for out in (np.zeros(shape, bool), left_out):
        given = np.where(out, np.nan, x)
        found = line_opening(torch.from_numpy(given), torch.from_numpy(out) if out.any() else None).numpy()
        np.testing.assert_array_equal(found[~out], brute_force(x, out)[~out])


def test_what_is_shorter_than_a_line_stands_out_and_a_line_does_not() -> None:
    x = torch.zeros(70, 70, dtype=torch.float64)
    x[10 : 10 + LENGTH, 5] = 1  # a line of just that length
    x[40:48, 40:48] = 1  # its diagonal has 8 px
    x[60:64, 60:64] = -2
    contrast = line_contrast(x)
    assert (contrast[10 : 10 + LENGTH, 5] == 0).all()
    assert (contrast[40:48, 40:48] == 1).all() and (contrast[60:64, 60:64] == 2).all()
    assert int((contrast > 0).sum()) == 64 + 16


def scene(height: int = 70, width: int = 45) -> torch.Tensor:
    """H, ``(1, 12, H, W)``: bands that depend on each other, and an unusual place."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(1, 12, height, width, generator=generator)
    h = torch.einsum("cb,nbhw->nchw", torch.randn(12, 12, generator=generator), h) / 30
    h[0, :, 20:23, 10:13] += 0.3
    return h


def test_formula() -> None:
    h, other = scene(), torch.rand(1, 70, 45, generator=torch.Generator().manual_seed(1)).double() + 1
    z = Background.from_cube(h).components(3)[0](h[0])
    summed = fusion_c.join([other, fusion_c.LogDistances()(h)]) + (line_contrast(z).sum(0) + 0.1).log() / 2
    torch.testing.assert_close(
        join_in_contrast([other, LogDistancesAndContrast()(h)]), summed - line_opening(summed) / 2
    )


def test_blocks_with_a_halo_are_the_whole_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    h = scene(height=95)
    distances, halo = LogDistancesAndContrast(), LogDistancesAndContrast.halo
    whole = distances(h)
    state = distances.fit(distances.collect(h, None, Where(0, 95)), Where(0, 95))
    rows = []
    for start in range(0, 95, 19):
        top = max(0, start - halo)
        block = distances.score(h[:, :, top : start + 19 + halo], state, None)
        rows.append(block[:, start - top : start - top + 19])
    torch.testing.assert_close(torch.cat(rows, 1), whole, rtol=0, atol=1e-8)
    joined = join_in_contrast([whole.exp(), whole])
    monkeypatch.setattr("fers.scoring.fusion_d._OPENED_ROWS", 8)
    assert torch.equal(join_in_contrast([whole.exp(), whole]), joined)


def test_pixels_left_out_have_no_part_in_the_others_scores() -> None:
    h, left_out = scene(), torch.zeros(1, 70, 45, dtype=torch.bool)
    left_out[0, 30:50, :20] = True
    spoilt = h.masked_fill(left_out[:, None], float("nan"))
    maps = [LogDistancesAndContrast()(cube, left_out) for cube in (h, spoilt)]
    joined = [join_in_contrast([one.exp(), one.masked_fill(left_out, torch.nan)])[~left_out] for one in maps]
    assert torch.isfinite(joined[0]).all()
    torch.testing.assert_close(*joined)


@pytest.mark.parametrize("fusion", ["C", "D"])
def test_a_pixel_that_is_left_out_of_the_statistics_is_scored_by_its_own_spectrum(fusion: str) -> None:
    module = {"C": fusion_c.LogDistances, "D": LogDistancesAndContrast}[fusion]
    h, left_out = scene(), torch.zeros(1, 70, 45, dtype=torch.bool)
    left_out[0, 20:23, 10:13] = left_out[0, 50, 30] = True
    score = module()(h, left_out)[0]
    assert score[20:23, 10:13].min() > score[50, 30]
    assert score[20:23, 10:13].unique().numel() == 9


def test_the_pipeline_has_it_by_name_and_marks_it_as_its_own() -> None:
    config = DetectConfig(12, features="untrained", fusion="D", backbone="random", device="cpu")
    pipeline = Pipeline(config)
    score = pipeline.score(scene()[0].permute(1, 2, 0).contiguous().numpy())
    assert pipeline.signed and pipeline.streams and np.isfinite(score).all()
    assert any("Fusion D is this project's own" in caveat for caveat in pipeline.caveats)
