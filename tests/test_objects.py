"""The study of fusion D: targets are planted where they count, and the choices are those of the module."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from experiments.objects import GRID, LARGEST, PLANTED, Choice, plant
from fers.evaluation.metrics import objects_of
from fers.scoring import fusion_d


def test_planted_targets_touch_no_object_and_change_only_what_they_cover():
    rng = np.random.RandomState(0)
    cube, truth = rng.rand(100, 90, 6).astype(np.float32) * 0.1, np.zeros((100, 90), bool)
    truth[40:44, 30:50] = True
    made, planted, left_out = plant(cube, truth, [np.full(9, 0.7), np.linspace(0.5, 0.9, 4)], np.random.RandomState(1))
    changed = np.abs(made - cube).max(2) > 0
    numbers, count = objects_of(planted)
    areas = np.bincount(numbers.ravel())[1:]
    assert count == PLANTED and areas.min() >= 1 and areas.max() <= 1.2 * LARGEST
    assert (planted <= changed).all() and not (planted & left_out).any()
    np.testing.assert_array_equal(left_out, ndimage.binary_dilation(truth, iterations=2))
    far = ~ndimage.binary_dilation(changed & planted, iterations=6)
    assert not changed[far].any() and not changed[truth].any()
    assert made[planted].mean() > cube[planted].mean() + 0.05


def test_the_default_choice_is_fusion_d():
    assert Choice() in GRID
    assert Choice()[:2] == (fusion_d.LENGTH, fusion_d.COMPONENTS)
