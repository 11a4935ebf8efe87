"""Fusion C: its formula in closed form and by brute force, blocks against the whole, batches, masks, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.detectors.background import Background, Components
from fers.detectors.base import Where
from fers.detectors.rx import rx
from fers.networks import SpeFEN
from fers.scoring.config import DetectConfig
from fers.scoring.fusion_c import (
    GLOBAL_RANKS,
    LogDistances,
    global_log_distance,
    join,
    local_log_distance,
    windows_for,
)
from fers.scoring.pipeline import Pipeline


def fusion_c(detector, h: torch.Tensor, f_spe: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """Fusion C from H and its features, as the pipeline has it."""
    return join([detector(h + f_spe), LogDistances()(h, left_out)])


def components_of(h: torch.Tensor) -> Components:
    return Background.from_cube(h).components(GLOBAL_RANKS[-1])[0]


WINDOWS = ((5, 15), (15, 35))  # px, inner and outer side, as the module's formula has them
HALO = 17  # px, half the largest of them
RIDGE = 1e-3  # of the scene's variance along each component


def scene(bands: int = 24, height: int = 46, width: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """H and F_spe, ``(1, C, H, W)``: bands that depend on each other, and two unusual pixels."""
    generator = torch.Generator().manual_seed(seed)
    sources = torch.randn(1, bands, height, width, generator=generator) * torch.logspace(0, -2, bands)[:, None, None]
    mix = torch.randn(bands, bands, generator=generator)
    h = torch.einsum("cb,nbhw->nchw", mix, sources) / 30
    h[0, :, 10, 10] += 0.4
    h[0, 3, 30, 25] -= 0.3
    return h, torch.rand(1, bands, height, width, generator=generator)


def brute_force_local(z: np.ndarray, inner: int, outer: int, row: int, column: int) -> float:
    """The local term of one pixel, from the pixels between the windows one by one."""
    half, cut = outer // 2, inner // 2
    padded = np.pad(z, ((0, 0), (half, half), (half, half)), mode="reflect")
    window = padded[:, row : row + outer, column : column + outer]
    ring = np.ones((outer, outer), bool)
    ring[half - cut : half + cut + 1, half - cut : half + cut + 1] = False
    pixels = window[:, ring]
    mean, covariance = pixels.mean(1), np.cov(pixels, bias=True)
    centred = z[:, row, column] - mean
    logs = []
    for rank in range(1, len(z) + 1):
        inverse = np.linalg.inv(np.atleast_2d(covariance)[:rank, :rank] + RIDGE * np.eye(rank))
        logs.append(np.log(centred[:rank] @ inverse @ centred[:rank]))
    return float(np.mean(logs))


def test_components_have_unit_covariance_and_the_scenes_leading_directions() -> None:
    h, _ = scene()
    z = components_of(h)(h[0]).flatten(1)
    assert z.dtype == torch.float64
    torch.testing.assert_close(torch.cov(z), torch.eye(len(z), dtype=torch.float64), atol=1e-6, rtol=0)
    full = torch.cov(h[0].flatten(1).double())
    first = components_of(h).whitening[0]
    assert float(first @ full @ first) == pytest.approx(1)
    assert float(first.norm() ** -2) == pytest.approx(float(torch.linalg.eigvalsh(full)[-1]))


def test_global_term_of_all_components_is_rx() -> None:
    h, _ = scene(bands=8)
    z = components_of(h)(h[0])
    torch.testing.assert_close(global_log_distance(z).exp(), rx(h)[0], rtol=1e-6, atol=0)


def test_global_term_averages_over_ranks() -> None:
    z = torch.ones(80, 1, 1, dtype=torch.float64)
    assert float(global_log_distance(z)) == pytest.approx(np.mean(np.log([10, 20, 40, 80])))
    assert float(global_log_distance(z[:30])) == pytest.approx(np.mean(np.log([10, 20, 30])))


@pytest.mark.parametrize("pixel", [(0, 0), (10, 10), (45, 39), (30, 25)])
def test_local_term_is_the_mahalanobis_distance_from_the_ring(pixel: tuple[int, int]) -> None:
    h, _ = scene()
    z = components_of(h)(h[0])[:5]
    found = local_log_distance(z, WINDOWS)[pixel]
    expected = np.mean([brute_force_local(z.numpy(), *window, *pixel) for window in WINDOWS])
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_formula_is_the_mean_of_the_global_terms_plus_the_local_one() -> None:
    h, f_spe = scene()
    z = components_of(h)(h[0])
    expected = (rx(h + f_spe)[0].log() + global_log_distance(z)) / 2 + local_log_distance(z[:16], WINDOWS)
    torch.testing.assert_close(fusion_c(rx, h, f_spe)[0], expected)


def test_order_does_not_depend_on_the_detectors_scale() -> None:
    h, f_spe = scene()
    difference = fusion_c(lambda cube: 1000 * rx(cube), h, f_spe) - fusion_c(rx, h, f_spe)
    torch.testing.assert_close(difference, torch.full_like(difference, np.log(1000) / 2))


def test_batch_of_scenes_is_scene_by_scene() -> None:
    scenes = [scene(seed=seed) for seed in (1, 2, 3)]
    together = fusion_c(rx, torch.cat([h for h, _ in scenes]), torch.cat([f for _, f in scenes]))
    torch.testing.assert_close(together, torch.cat([fusion_c(rx, h, f) for h, f in scenes]))
    assert together.shape == (3, 46, 40)


def test_blocks_with_a_halo_are_the_whole_scene() -> None:
    h, _ = scene(height=90, width=50)
    distances, halo = LogDistances(), LogDistances.halo
    whole = distances(h)
    state = distances.fit(distances.collect(h, None, Where(0, 90)), Where(0, 90))
    rows = []
    for start in range(0, 90, 30):
        top, bottom = max(0, start - halo), min(90, start + 30 + halo)
        block = distances.score(h[:, :, top:bottom], state, None)
        rows.append(block[:, start - top : start - top + 30])
    torch.testing.assert_close(torch.cat(rows, 1), whole, rtol=0, atol=1e-8)


def test_many_rows_at_a_time_or_few_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    h, _ = scene()
    z = components_of(h)(h[0])[:4]
    whole = local_log_distance(z, WINDOWS)
    monkeypatch.setattr("fers.detectors.local_pc._BYTES", 1 << 17)
    monkeypatch.setattr("fers.detectors.local_pc._PIXELS", 300)
    torch.testing.assert_close(local_log_distance(z, WINDOWS), whole, rtol=0, atol=1e-9)


def test_pixels_left_out_have_no_part_in_the_others_scores() -> None:
    h, f_spe = scene()
    left_out = torch.zeros(1, 46, 40, dtype=torch.bool)
    left_out[0, :20, :20] = True
    spoilt = h.clone()
    spoilt[0, :, :20, :20] = float("nan")

    def detector(cube: torch.Tensor) -> torch.Tensor:
        return rx(cube.nan_to_num(), left_out=left_out)

    clean = fusion_c(detector, h, f_spe, left_out=left_out)[~left_out]
    assert torch.isfinite(clean).all()
    torch.testing.assert_close(fusion_c(detector, spoilt, f_spe, left_out=left_out)[~left_out], clean)


def test_windows_shrink_to_small_scenes() -> None:
    assert windows_for(100, 35) == WINDOWS
    assert windows_for(20, 64) == ((5, 15), (15, 19))
    assert windows_for(9, 9) == ((5, 9),)
    h = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(fusion_c(rx, h, torch.zeros_like(h))).all()


def test_flat_surroundings_give_a_finite_score_and_a_target_in_them_the_highest() -> None:
    h = torch.zeros(1, 2, 30, 30)
    h[0, :, :, 15:] = 1
    h[0, 1, 12, 5] = 0.5
    score = fusion_c(rx, h, torch.zeros_like(h))
    assert torch.isfinite(score).all()
    assert int(score.argmax()) == 12 * 30 + 5


def test_the_pipeline_has_it_by_name_and_marks_it_as_its_own() -> None:
    config = DetectConfig(
        bands=24, sensor="none", features="untrained", fusion="C", backbone="random", seed=2, device="cpu"
    )
    h = scene()[0]
    pipeline = Pipeline(config)
    with torch.no_grad():
        expected = fusion_c(rx, h, SpeFEN(24, "random", seed=2)(h))
    found = pipeline.score(h[0].permute(1, 2, 0).contiguous().numpy())
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-3)  # the deployed network rounds otherwise
    assert any("this project's own" in caveat for caveat in pipeline.caveats)
    assert "fusion C, untrained" in config.title


def test_only_fusion_c_goes_without_the_spatial_branch() -> None:
    with pytest.raises(ValueError, match="both branches"):
        DetectConfig(bands=24, sensor="none", features="untrained", fusion="B")
    with pytest.raises(ValueError, match="both branches"):
        DetectConfig(bands=24, sensor="none", features="original", fusion="C")


@pytest.mark.parametrize(
    ("h", "f_spe", "message"),
    [
        (torch.rand(3, 20, 20), torch.rand(3, 20, 20), "N x C x H x W"),
        (torch.full((1, 3, 20, 20), float("nan")), torch.zeros(1, 3, 20, 20), "NaN"),
        (torch.ones(1, 3, 20, 20), torch.zeros(1, 3, 20, 20), "no band"),
        (torch.rand(1, 3, 5, 20), torch.zeros(1, 3, 5, 20), "more than 5 px"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(h: torch.Tensor, f_spe: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fusion_c(rx, h, f_spe)
