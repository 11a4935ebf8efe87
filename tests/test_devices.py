"""A GPU that is not there: every detector, setting and pass keeps its tensors on one device (see other_device.py)."""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import QUICK, WITHOUT_WEIGHTS
from other_device import DEVICE, OtherDevice

from fers.detection import detect as detection
from fers.detection import job
from fers.detection.inputs import open_source
from fers.detection.options import DetectOptions
from fers.detection.scene_run import SceneRun
from fers.detectors import base
from fers.scoring.config import DetectConfig
from fers.scoring.fusion_c import LogDistances
from fers.scoring.networks import allow_tf32, choose_device
from fers.scoring.pipeline import Pipeline
from fers.training.device import make_accelerator

SMALL = {"LRX": {"inner": 3, "outer": 9}, "2S-GLRT": {"inner": 3, "outer": 9}, "CRD": {"inner": 3, "outer": 7}}
OWN_NOISE = {"Auto-AD"}  # drawn by the device's own generator, so its scores differ on each
READY = [name for name in WITHOUT_WEIGHTS if name not in OWN_NOISE]


class Now(Executor):
    """Runs each task at once, in this thread: the second device is known to one thread only."""

    def submit(self, function, /, *arguments, **keywords):
        done: Future = Future()
        done.set_result(function(*arguments, **keywords))
        return done


def scene() -> np.ndarray:
    cube = np.random.default_rng(0).normal(500, 5, (40, 36, 10)).astype(np.float32)
    cube[20, 15] += 90
    return cube


def options_of(name: str) -> tuple[tuple[str, str], ...]:
    chosen = QUICK.get(name, {}) | SMALL.get(name, {})
    return tuple((key, str(value)) for key, value in chosen.items())


def test_a_gpu_computes_a_block_while_others_are_read():
    with OtherDevice():
        options = DetectOptions(device="meta", features="original")
        plan = SceneRun(open_source(scene(), None, None, None, options), options).plan
    assert plan.workers == min(4, os.cpu_count() or 1)


def test_tensors_of_both_devices_meet_only_by_a_copy():
    with OtherDevice():
        there, here = torch.ones(3, 4).to(DEVICE), torch.ones(3, 4)
        assert there.device.type == DEVICE.type and float((there + 1).sum()) == 24
        assert torch.equal(there.cpu(), here) and torch.zeros(2, device=DEVICE).device == there.device
        for mixed in (lambda: there + here, lambda: there.masked_fill(here > 0, 0), lambda: torch.cat([there, here])):
            with pytest.raises(RuntimeError, match="on the second device and on the CPU"):
                mixed()
        with pytest.raises(TypeError, match=r"cpu\(\)"):
            there.numpy()
        cube = torch.randn(1, 5, 20, 20).to(DEVICE)
        with pytest.raises(RuntimeError, match="second device"):  # what fusion C once did: left_out stayed behind
            LogDistances()(cube, torch.zeros(1, 20, 20, dtype=torch.bool))


@pytest.fixture
def without_float64(monkeypatch):
    monkeypatch.setattr(OtherDevice, "float64", False)
    for module in (base, job):
        monkeypatch.setattr(module, "WITHOUT_FLOAT64", frozenset({DEVICE.type}))


@pytest.mark.parametrize("name", READY)
def test_every_detector_scores_on_a_device_without_float64(name, without_float64):
    test_every_detector_scores_on_a_second_device(name)


def test_fusion_c_streams_on_a_device_without_float64(monkeypatch, tmp_path, without_float64):
    setting = {"features": "untrained", "fusion": "C", "backbone": "random"}
    test_a_stream_of_strips_stays_on_its_device(monkeypatch, tmp_path, None, setting, holes=True)
    with OtherDevice(), pytest.raises(TypeError, match="no float64"):
        torch.zeros(2, dtype=torch.float64, device=DEVICE)


@pytest.mark.parametrize("name", READY)
def test_every_detector_scores_on_a_second_device(name):
    h = np.random.default_rng(0).random((40, 36, 6)).astype(np.float32)
    config = {"detect": name, "features": "original", "options": options_of(name)}
    here = Pipeline(DetectConfig(6, device="cpu", **config)).score(h)
    with OtherDevice():
        there = Pipeline(DetectConfig(6, device="meta", **config)).score(h)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6 * np.abs(here).max())


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize(
    "setting",
    [
        {"backbone": "random"},
        {"features": "untrained", "backbone": "random", "background": "segment:20"},
        {"features": "original", "background": "robust"},
        {"features": "original", "detect": "LRX", "options": options_of("LRX")},
        {"features": "original", "detect": "LRX-PC"},
        pytest.param({"features": "fused", "spatial": "scene"}, marks=pytest.mark.slow),
        pytest.param({"features": "spatial", "spatial": "window"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_stream_of_strips_stays_on_its_device(monkeypatch, tmp_path, checkpoints, setting, holes):
    monkeypatch.setattr(detection, "thread_pool", lambda workers: nullcontext(Now()))
    cube = scene()
    if setting.get("features") in ("spatial", "fused"):
        setting = setting | {"checkpoint_dir": checkpoints}
    if holes:
        cube[4:6, 5:9] = np.nan
        np.save(tmp_path / "out.npy", np.eye(40, 36))
        setting = setting | {"left_out": str(tmp_path / "out.npy")}
    here = detection.detect(cube, device="cpu", **setting).score
    with OtherDevice():
        there = detection.detect(cube, device="meta", **setting).score
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6 * np.nanmax(np.abs(here)))


def test_float32_is_float32_on_gpus_unless_tf32_is_asked_for():
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    allow_tf32(True)
    choose_device("cpu")
    assert not any(flag.allow_tf32 for flag in flags)
    make_accelerator("tf32", "cpu")
    assert all(flag.allow_tf32 for flag in flags)
    make_accelerator("fp32", "cpu")
    assert not any(flag.allow_tf32 for flag in flags)
