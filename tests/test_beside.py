"""Which run a number of the paper stands beside: one that computes what the paper's number was computed by."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import run_had100
from pandas import DataFrame
from test_titles import write_published

from experiments.rows import EQUATIONS, TABLE1, TABLE2, TABLE3, TABLE5, UNTRAINED, Request, beside_paper
from experiments.tables import Measured, Scenes
from fers.datasets.had100 import published_test_scenes
from fers.detectors import DETECTORS
from fers.evaluation.published import published_aucs, why_not_beside
from fers.networks.aetnet import AETNet
from fers.scoring.networks import Networks
from fers.scoring.pipeline import DetectConfig, Pipeline


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"features": "original"}, ""),
        ({"bands": 200}, ""),  # fusion B
        ({}, "--rx released"),  # fusion A by the equations
        ({"options": {"solver": "released"}}, ""),
        ({"options": {"solver": "released"}, "start_band": 1}, "no such setting"),
        ({"options": {"solver": "released"}, "features": "original"}, "no such setting"),
        ({"detect": "AE", "features": "original"}, "--select oracle"),
        ({"detect": "AE", "features": "original", "select": "oracle"}, ""),
        ({"detect": "AE", "features": "original", "select": "oracle", "options": {"iterations": 9}}, "no such setting"),
        ({"features": "untrained"}, "no such setting"),
    ],
)
def test_a_run_says_why_no_number_of_the_paper_stands_beside_it(config, says):
    reason = why_not_beside(DetectConfig(**{"bands": 50, **config}))
    assert (says in reason) if says else reason == ""


def test_the_papers_mean_stands_beside_the_mean_of_all_of_had100_only(tmp_path, capsys):
    names = list(published_test_scenes())
    options = ("--features", "original", "--no_maps", "--input_channel", "50")
    for kind, some in (("whole", names), ("part", names[:3])):
        data = write_published(tmp_path / kind, some)
        assert run_had100(data, tmp_path / f"{kind}_out", *options) == 0
        printed = capsys.readouterr().out
        assert bool(re.search(r"^mean of 100 +\d\.\d{4} +0\.9799 ", printed, re.MULTILINE)) == (kind == "whole")
        assert ("0.9799" in printed) == (kind == "whole") and bool(re.search("AUC +paper", printed)) == (
            kind == "whole"
        )


def test_the_number_of_the_paper_is_its_own_and_not_that_of_another_source():
    assert published_aucs("HAD100", "AETNet", "original", 50) == {"mean": 0.9925}


def test_fusion_a_by_the_equations_has_no_number_of_the_paper_and_says_so():
    fers, released = (row for row in TABLE1 if row.name.startswith("FERS"))
    assert beside_paper(fers, 50).mark == EQUATIONS and not any(beside_paper(fers, 50).paper)
    assert beside_paper(fers, 100) == fers and beside_paper(released, 50) == released
    marked = [row.name for row in TABLE3 if beside_paper(row, 200).mark == EQUATIONS]
    assert marked == ["fusion A, equations"]
    assert all(beside_paper(row, 50).mark == EQUATIONS for row in TABLE5[1:])


def test_aetnets_epoch_is_marked_below_every_table():
    """What the detector's row says of itself is a caveat of each run, and a run's caveats are its row's mark."""
    assert "the epoch is chosen by the first test scene; here it is the last" in DETECTORS["AETNet"].note
    network = Networks(detector=AETNet(10).eval())
    pipeline = Pipeline(DetectConfig(bands=10, features="original", detect="AETNet"), network)
    assert f"AETNet: {DETECTORS['AETNet'].note}" in pipeline.caveats
    found = Measured(DataFrame(), Path(), caveats=tuple(pipeline.caveats))
    assert found.mark("") == " ".join(pipeline.caveats)


def test_table_two_has_an_untrained_control_for_every_detector(tmp_path):
    class Asked(Request):
        def jobs(self, *_):
            return []

        second = SimpleNamespace(has_patches=True, benchmark="ABU")

    seen = [(detector, what) for detector, what, *_ in Scenes(Asked()).settings()]
    assert [detector for detector, what in seen if what == UNTRAINED.name] == list(TABLE2)
    only = [detector for detector, *_ in Scenes(Asked(names=("AE",))).settings()]
    assert set(only) == {"AE, last", "AE, oracle"} and np.size(only) == 8
