"""The report: one page, everything in it, and a browser that agrees."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from conftest import run_had100, write_checkpoints, write_had100

from fers.datasets.benchmarks import BENCHMARKS
from fers.evaluation.evaluate import evaluate
from fers.evaluation.figures import plain, scene_figure
from fers.evaluation.page import build_report
from fers.evaluation.report import main
from fers.evaluation.results import ReportError, read_results
from fers.scenes import Scene
from fers.scoring.pipeline import DetectConfig, Pipeline

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three settings over the same scenes, and a training log."""
    tmp_path = tmp_path_factory.mktemp("report")
    dataset = write_had100(tmp_path / "data", names=("a", "b", "c"), shape=(20, 24, 30))
    checkpoints = write_checkpoints(tmp_path / "checkpoints")
    folder = tmp_path / "results"
    assert run_had100(dataset, folder / "original", "--features", "original") == 0
    for fusion in "AB":
        assert run_had100(dataset, folder / fusion, "--checkpoint_dir", str(checkpoints), "--fusion", fusion) == 0
    (folder / "training" / "stage1").mkdir(parents=True)
    with (folder / "training" / "stage1" / "log.jsonl").open("w") as file:
        for epoch in (1, 2, 3):
            terms = {"sim": 1 / epoch, "mse": 0.1, "z": 0.7}
            entry = {"epoch": epoch, "loss": 1 / epoch, "terms": terms, "seconds": 2.0, "patches_per_second": 4.0}
            file.write(json.dumps({**entry, "held_out": {"loss": 1.1 / epoch, "terms": terms}}) + "\n")
    return tmp_path


@pytest.fixture
def results(made, tmp_path):
    """A copy of the results that a test may damage."""
    return shutil.copytree(made / "results", tmp_path / "results")


@pytest.fixture
def dataset(made):
    return made / "data"


def test_results_that_name_no_data_set_are_refused_with_the_remedy(results):
    path = results / "A" / "results.json"
    found = json.loads(path.read_text())
    del found["config"]["benchmark"], found["config"]["data_path"]
    path.write_text(json.dumps(found))
    with pytest.raises(ReportError, match=r"no benchmark and no data_path.*call evaluate"):
        read_results(path)


@pytest.mark.slow
def test_the_page_has_the_table_and_loads_nothing(results, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main([str(results), "--out", str(page), "--title", "A <b>title</b>", "--note", "what & why"]) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == str(page)
    mean = json.loads((results / "A" / "results.json").read_text())["mean_auc"]
    numbers = r"(\d\.\d{4}) +(\d\.\d{4}) +(\d\.\d{4})"
    said = re.search(rf"^RX, fusion A +{mean:.4f} +too few scenes +{numbers} +3 ", output, re.MULTILINE)
    scenes = json.loads((results / "A" / "results.json").read_text())["scenes"].values()
    beside = [np.mean([scene[key] for scene in scenes]) for key in ("ap", "pd@1e-3", "pd@1e-2")]
    assert [float(value) for value in said.groups()] == pytest.approx(beside, abs=1e-4)
    text = page.read_text()
    assert "A &lt;b&gt;title" in text and "what &amp; why" in text
    outside = [
        url for url in re.findall(r'(?:src|href)="([^"]*)"', text) if not url.startswith("data:image/png;base64,")
    ]
    assert outside == [] and "url(" not in text and "import(" not in text and "fetch(" not in text
    assert text.count("<img") == 3 + 1  # three scenes and a training log
    heads = re.findall(r"<button>(RX, [^<]*)</button>", text)
    assert heads == ["RX, original", "RX, fusion A", "RX, fusion B"]
    original = json.loads((results / "original" / "results.json").read_text())
    for scene in original["scenes"].values():
        assert f"{scene['auc']:.4f}" in text
    means = [json.loads((results / name / "results.json").read_text())["mean_auc"] for name in ("original", "A", "B")]
    footer = re.search(r"mean of 3</td>(.*?)</tr>", text).group(1)
    assert [float(v) for v in re.findall(r">([\d.]+)<", footer)] == pytest.approx(np.round(means, 4))
    for title, value in zip(("AP", "Pd@0.001", "Pd@0.01"), beside, strict=True):
        assert f"{value:.4f}" in re.search(rf"mean {title}</td>(.*?)</tr>", text).group(1)
    assert "random (seed 0), not ImageNet" in text  # marks travel with the table
    assert "3 epochs in 6 s" in text


def test_a_browser_shows_the_table_and_every_picture(results, tmp_path):
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        pytest.skip(f"no browser to look at the page with ({', '.join(BROWSERS)})")
    page = build_report(results, tmp_path / "page.html")
    counting = (
        "<script>addEventListener('load', () => { document.title = JSON.stringify({"
        "rows: document.querySelectorAll('#auc tbody tr').length,"
        "widths: [...document.images].map(image => image.naturalWidth),"
        "visible: [...document.images].every(image => image.getBoundingClientRect().height > 50),"
        "overflow: document.documentElement.scrollWidth > innerWidth }) })</script>"
    )
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</head>", f"{counting}</head>"))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    command += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command += ["--virtual-time-budget=5000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    seen = json.loads(re.search(r"<title>(\{.*?\})</title>", done.stdout).group(1))
    assert seen["rows"] == 3
    assert len(seen["widths"]) == 4 and min(seen["widths"]) > 1000
    assert seen["visible"] and not seen["overflow"]


def test_what_cannot_stand_in_one_table_is_refused(results, dataset, tmp_path, capsys):
    with pytest.raises(ReportError, match=r"no finished results\.json"):
        build_report(tmp_path / "data", tmp_path / "page.html")
    assert run_had100(dataset, results / "shifted", "--features", "original", "--start_band", "2") == 0
    capsys.readouterr()
    assert main([str(results), "--out", str(tmp_path / "page.html")]) == 2
    assert "differ in start_band" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_settings_of_one_name_are_told_apart(results, dataset, capsys):
    for seed in "12":
        arguments = ["--features", "untrained", "--backbone", f"random:{seed}"]
        assert run_had100(dataset, results / f"random{seed}", *arguments) == 0
    capsys.readouterr()
    assert main([str(results)]) == 0
    output = capsys.readouterr().out
    assert "RX, untrained, backbone random:1" in output and "RX, untrained, backbone random:2" in output


@pytest.mark.parametrize("damage", ["[]", "null", "5", "{", '{"format": 1}', "[" * 5000, '{"format": 3, "config": 3}'])
def test_damaged_results_are_refused_by_name(results, damage, capsys):
    (results / "A" / "results.json").write_text(damage)
    assert main([str(results)]) == 2
    error = capsys.readouterr().err
    assert "A/results.json" in error and "Run its test again" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "key, value",
    [
        *[(key, value) for key in ("config", "scenes", "mean_seconds") for value in (None, [], "x")],
        *[("caveats", value) for value in (None, 3, "x", [3])],
        *[("config", {"title": 3}), ("scenes", {"a": 1}), ("scenes", {}), ("mean_seconds", {})],
    ],
)
def test_results_of_wrong_types_are_refused(results, key, value):
    path = results / "A" / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ReportError, match=r"A/results\.json"):
        read_results(path)


def test_a_damaged_score_map_is_refused_by_name(results, capsys):
    path = results / "A" / "scores" / "a.npy"
    path.write_bytes(path.read_bytes()[:200])
    assert main([str(results)]) == 2
    assert "scores/a.npy: cannot be read as a score map" in capsys.readouterr().err


def test_results_that_contradict_their_score_map_are_refused(results, capsys):
    path = results / "A" / "results.json"
    content = json.loads(path.read_text())
    content["scenes"]["a"]["auc"] = 0.123
    path.write_text(json.dumps(content))
    assert main([str(results)]) == 2
    assert "scores/a.npy: its AUC is " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("line", ['{"epoch": 4}', '{"epoch": 4, "loss": "x"}', '{"epoch": 4, "loss": 1, "terms": []}'])
def test_a_log_line_that_is_not_whole_is_left_out_of_the_curves(results, line):
    path = next(results.rglob("log.jsonl"))
    with path.open("a") as file:
        file.write(line + "\n")
    assert main([str(results)]) == 0
    assert "3 epochs in 6 s" in (results / "report.html").read_text()


def test_results_of_evaluate_need_to_say_where_their_scenes_are(dataset, tmp_path, capsys):
    """A page shows the scenes; without their place the message says how to give it."""
    scenes = BENCHMARKS["HAD100"].scenes(dataset, None, "all")
    pipeline = Pipeline(DetectConfig(bands=10, features="original", device="cpu"))
    evaluate(scenes, pipeline, tmp_path / "without" / "rx", dataset="mine", maps=False)
    assert main([str(tmp_path / "without")]) == 2
    error = capsys.readouterr().err
    assert "rx/results.json: its config has no benchmark" in error and '"data_path": FOLDER' in error
    place = {"benchmark": "HAD100", "data_path": str(dataset)}
    evaluate(scenes, pipeline, tmp_path / "with" / "rx", dataset="mine", config=place, maps=False)
    assert main([str(tmp_path / "with")]) == 0 and (tmp_path / "with" / "report.html").is_file()


def test_names_that_are_mathtext_or_no_text_are_drawn_to_the_letter(tmp_path):
    scene = Scene("a$\\frac{$b\udcff", np.random.RandomState(0).uniform(size=(9, 9, 3)), tmp_path / "a.npy")
    mask = np.eye(9, dtype=bool)
    assert scene_figure(scene, mask.astype(float), mask, tmp_path / "a.png", "RX ($")
    assert plain("a$b\udcff") == "a\\$b\\udcff"
