"""What a comparison comes to: its summary, tests, tables, figures, page, and others' numbers beside it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fake_comparison import fake_comparison
from PIL import Image
from scipy import stats

from fers.comparison import figures, page
from fers.comparison.beside import beside_rows, published_beside
from fers.comparison.figures import map_figure, separability, time_figure, write_figures
from fers.comparison.page import write_compare_page
from fers.comparison.summary import (
    chance_row,
    head_and_rows,
    notes,
    reference_label,
    scene_values,
    standing,
    summary,
    summary_latex,
    summary_markdown,
)
from fers.evaluation import published
from fers.evaluation.metrics import MEASURES
from fers.evaluation.statistics import mean_interval
from fers.evaluation.tables import latex_text

MANY = ["RX", "LRX", "my_package.my_module:MyDetector", *(f"detector {i}" for i in range(17))]


@pytest.fixture
def others(monkeypatch):
    """Published numbers of one scene that is known here, and of one that is not."""
    about = {
        "source": "a README",
        "year": 2026,
        "url": "https://example.org",
        "protocol": "best of three seeds",
        "note": "",
    }
    rows = [
        {**about, "scene": "airport-2", "method": "rx", "auc": 0.9},
        {**about, "scene": "airport-2", "method": "SM-HAD", "auc": 0.99},
        {**about, "scene": "", "method": "SM-HAD", "auc": 0.5},
    ]
    monkeypatch.setattr(published, "published_per_scene", lambda: rows, raising=False)


def test_standing_is_that_of_plain_loops():
    result = fake_comparison(scenes=12, seeds=(0, 1, 2))
    cells = {(r["label"], r["scene"], r["seed"]): r["ap"] for r in result.rows}
    means = {
        d: [np.mean([cells[d, s, seed] for seed in (0, 1, 2)]) for s in result.scenes]
        for d in ("RX", "CRD", "fusion C")
    }
    found = standing(result, "ap").set_index("label")
    for label, values in means.items():
        row = found.loc[label]
        assert row["mean"] == pytest.approx(np.mean(values)) and row["worst"] == pytest.approx(min(values))
        assert row["worst_scene"] == f"s{np.argmin(values) + 1}" and row["scenes"] == 12
        seeds = [np.mean([cells[label, s, seed] for s in result.scenes]) for seed in (0, 1, 2)]
        assert row["spread"] == pytest.approx(np.std(seeds, ddof=1))
        higher = [sum(means[other][i] > values[i] for other in means) for i in range(12)]
        assert row["rank"] == pytest.approx(1 + np.mean(higher))
        interval = mean_interval(values, groups=["shared", "shared", *[""] * 10])
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        if label != "RX":
            difference = np.subtract(values, means["RX"])
            assert row["gain"] == pytest.approx(difference.mean()) and row["loss"] == pytest.approx(difference.min())
            assert row["loss_scene"] == f"s{difference.argmin() + 1}"
            assert row["p"] == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue)
    assert found.loc[["CRD", "fusion C"], "p_holm"].max() <= 2 * found["p"].max()
    assert np.isnan(found.loc["RX", ["gain", "loss", "p"]].astype(float)).all()


def test_where_lower_is_better_the_worst_is_the_highest():
    result = fake_comparison()
    values = scene_values(result, "auc_f_tau").loc["CRD"]
    row = standing(result, "auc_f_tau").set_index("label").loc["CRD"]
    assert row["worst"] == values.max() and row["worst_scene"] == values.idxmax()
    rx = scene_values(result, "auc_f_tau").loc["RX"]
    assert row["loss"] == pytest.approx((values - rx).max())


def test_an_interval_ends_where_its_measure_does():
    result = fake_comparison(("RX", "LRX", "a", "b", "c"), scenes=12)
    values = scene_values(result, "pauc@1e-3").loc["b"]
    wide = mean_interval(values, groups=[scene.group for scene in result.scenes.values()])
    row = standing(result, "pauc@1e-3").set_index("label").loc["b"]
    assert wide.high > 1 and (row["low"], row["high"]) == (wide.low, 1)


def test_a_label_that_lacks_a_scene_has_a_mean_and_no_rank_and_the_text_says_so():
    result = fake_comparison(missing={("CRD", "s2")})
    row = summary(result).set_index("label").loc["CRD"]
    assert row["scenes"] == 2 and row["of"] == 3 and np.isnan(row["rank"]) and np.isnan(row["low"])
    assert row["auc"] == pytest.approx(scene_values(result, "auc").loc["CRD"].dropna().mean())
    assert list(summary(result)["label"])[-1] == "CRD"
    text = summary_markdown(result)
    assert "Means over fewer scenes: CRD (2 of 3)." in text and "- CRD on s2: more than 20 <columns>. Cut it.\n" in text


def test_the_notes_say_what_three_scenes_cannot_show():
    told = "\n".join(notes(fake_comparison()))
    assert "No interval of a mean: too few scenes" in told and "resampled together: shared (2 scenes)" in told
    assert "of 3 scenes and 2 tests the least p is 0.5" in told
    many = "\n".join(notes(fake_comparison(scenes=14)))
    assert "too few" not in many and "least p" not in many


def test_the_reference_is_rx_on_the_cube_as_it_is():
    result = fake_comparison()
    assert reference_label(result) == "RX"
    rows = [{**row, "setting": "fused"} if row["detector"] == "RX" else row for row in result.rows]
    other = replace(result, rows=rows)
    assert reference_label(other) is None and standing(other)["gain"].isna().all()
    assert "worst against RX" not in head_and_rows(other)[0]


def test_objects_are_summed_and_chance_stands_below():
    result = fake_comparison()
    head, rows = head_and_rows(result)
    total = sum(row["objects@1000"] for row in result.rows if row["label"] == "CRD")
    cell = next(row for row in rows if row[0] == "CRD")[head.index("objects@1000")]
    assert cell == f"{total:g}/6"
    share = result.scenes["s1"].truth.mean()
    assert chance_row(result)["ap"] == pytest.approx(share) and rows[-1][head.index("AP")] == f"{share:.4f}"


def test_long_form_has_a_row_for_each_cell_and_measure():
    result = fake_comparison(seeds=(0, 1))
    long = result.long()
    assert len(long) == 3 * 3 * 2 * (len(MEASURES) + 3)
    one = long[(long["label"] == "CRD") & (long["scene"] == "s2") & (long["seed"] == 1)].set_index("measure")["value"]
    assert one["auc"] == next(r for r in result.rows if (r["label"], r["scene"], r["seed"]) == ("CRD", "s2", 1))["auc"]


def test_latex_prints_what_it_is_given():
    assert latex_text("p < 0.05 & 5 % of a_b^2 ± [x] > \\y") == (
        r"p $<$ 0.05 \& 5 \% of a\_b\textasciicircum{}2 $\pm$ {[}x] $>$ \textbackslash{}y"
    )
    text = summary_latex(fake_comparison(("RX", "my_module:A & B <1>")))
    assert r"my\_module:A \& B $<$1$>$" in text and r"A caveat with $<$b$>$ \& 5 \%." in text
    assert text.count(r"\begin{tabular}") == text.count(r"\toprule") == text.count(r"\end{table*}") == 2
    for line in text.splitlines():
        unescaped = re.sub(r"\\[&%$#_{}]", "", line)
        assert unescaped.count("{") == unescaped.count("}") or "resizebox" in line or line == r"\end{tabular}}"
    columns = [
        len(re.findall(r"(?<!\\)&", line)) for line in text.split(r"\toprule")[1].splitlines() if line.endswith(r"\\")
    ]
    assert len(set(columns)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("detectors, scenes, seeds", [(("RX",), 1, (0,)), (("RX", "CRD", "$x_1$ <b>"), 2, (3, 4))])
def test_every_figure_is_there_in_both_formats(tmp_path, detectors, scenes, seeds):
    paths = write_figures(fake_comparison(detectors, scenes, seeds, left_out=True), tmp_path)
    kinds = {"maps", "roc", "roc3d", "boxes"}
    expected = {f"{kind}_s{i + 1}" for kind in kinds for i in range(scenes)} | {"times"}
    expected |= {"ranks"} if len(detectors) > 1 and scenes > 1 else set()
    assert {path.name for path in paths} == {f"{stem}.{suffix}" for stem in expected for suffix in ("png", "pdf")}
    for path in paths:
        assert path.read_bytes()[:4] == (b"%PDF" if path.suffix == ".pdf" else b"\x89PNG")
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width == 1050  # 3.5 inches of 300 points


def test_figures_of_a_scene_without_anomalies_are_its_maps_only(tmp_path):
    result = fake_comparison(scenes=1)
    scene = result.scenes["s1"]
    empty = replace(result, scenes={"s1": replace(scene, truth=np.zeros_like(scene.truth), picture=None)})
    empty = replace(empty, rows=[{**row, **dict.fromkeys(MEASURES)} for row in empty.rows])
    assert {path.stem for path in write_figures(empty, tmp_path)} == {"maps_s1", "times"}
    assert write_compare_page(empty, tmp_path).is_file() and "| RX | - |" in summary_markdown(empty)


def test_figures_of_scenes_are_those_asked_for(tmp_path):
    assert {path.stem for path in write_figures(fake_comparison(), tmp_path, scenes=[])} == {"times", "ranks"}


def test_twenty_detectors_do_not_overlap_in_a_figure():
    result = fake_comparison(MANY, scenes=1)
    with mpl.rc_context(figures._FONTS):
        drawn = [time_figure(result), map_figure(result.scenes["s1"], figures.first_maps(result, "s1"))]
    for figure in drawn:
        figure.draw_without_rendering()
        texts = [text for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label)] + figure.texts
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert len(boxes) > 40
        overlapping = [
            (i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].padded(-1).overlaps(boxes[j].padded(-1))
        ]
        assert overlapping == []
        outside = [box for box in boxes if box.x0 < -1 or box.x1 > figure.bbox.width + 1 or box.y0 < -1]
        assert outside == []


def test_of_many_detectors_the_best_and_rx_have_a_colour():
    styles = figures._styles(fake_comparison([*MANY[1:], "RX"], scenes=4))
    coloured = [style["color"] for style in styles.values() if style["zorder"] == 2]
    assert len(styles) == 20 and len(set(coloured)) == 7 and styles["RX"]["zorder"] == 2


def test_boxes_are_those_of_the_worked_example():
    score = np.array([[0, 1, 1, 2, 3], [5, 2, 6, 8, 10.0]])
    truth = np.array([[0] * 5, [0, 1, 1, 1, 1]], bool)
    anomalies, background = separability(score, truth)
    assert [anomalies[key] for key in ("q1", "med", "q3")] == pytest.approx([0.32, 0.70, 0.94])
    assert [background[key] for key in ("q1", "med", "q3")] == pytest.approx([0.05, 0.15, 0.40])
    assert (background["whislo"], anomalies["whishi"]) == (0, 1)
    assert anomalies["q1"] - background["q3"] == pytest.approx(-0.08)


class Reader(HTMLParser):
    """A page's tags, checked to close in order; its texts; and its tables' numbers of cells."""

    VOID = ("meta", "img", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.rows, self.sources = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


@pytest.mark.parametrize(
    "case",
    [
        {"detectors": ("RX",), "scenes": 1},
        {"detectors": ("RX", '<b>bold</b> & "x"', "CRD"), "missing": {("CRD", "s2")}, "seeds": (0, 1, 2)},
        {"scenes": 13, "left_out": True},
    ],
)
def test_the_page_is_whole_and_needs_nothing_else(tmp_path, case, others):
    result = fake_comparison(**case, against="published")
    path = write_compare_page(result, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["compare.html"] == [path.name]
    read = Reader(path.read_text())
    assert all(source.startswith("data:image/png;base64,") for source in read.sources)
    assert len(read.sources) >= len(result.maps) / len(case.get("seeds", (0,))) + 2 * len(result.scenes)
    texts = "\n".join(read.texts)
    for told in ("0.3.0", "fers compare --scenes x", "0123456789abcdef", "A caveat with <b> & 5 %.", *result.scenes):
        assert told in texts
    assert all(row["label"] in read.texts for row in result.rows) and "<b>bold" not in path.read_text()
    assert ("on s2, seed 1: more than 20 <columns>" in texts) == bool(case.get("missing"))
    assert all(f'data-measure="{key}"' in path.read_text() for key in MEASURES)
    assert ("best of three seeds" in texts) == (len(result.scenes) > 1)


def test_a_large_scene_is_made_smaller_and_keeps_its_small_objects():
    values = np.zeros((7, 9))
    values[6, 8], values[0, :] = 1.0, np.nan
    small = page._shrunk(values, 4)
    assert small.shape == (2, 3) and small[1, 2] == 1 and small[0, 0] == 0
    assert np.isnan(page._shrunk(np.full((4, 4), np.nan), 4)).all() and page._shrunk(values, 1).shape == (7, 9)


def test_published_numbers_stand_beside_the_same_file_only(others):
    result = fake_comparison()
    found = published_beside(result)
    assert list(found["scene"]) == ["s2", "s2"] and set(found["method"]) == {"rx", "SM-HAD"}
    rx = found[found["method"] == "rx"].iloc[0]
    assert rx["published"] == 0.9 and rx["ours"] == scene_values(result, "auc").loc["RX", "s2"]
    assert np.isnan(found[found["method"] == "SM-HAD"].iloc[0]["ours"]) and rx["protocol"] == "best of three seeds"
    head, rows = beside_rows(result)
    assert head == ["published by others", "s2", "protocol"]
    assert ["SM-HAD, a README 2026", "0.9900", "best of three seeds"] in rows
    scenes = {"airport-2": replace(result.scenes["s2"], name="airport-2", known="")}
    renamed = replace(
        result, scenes=scenes, rows=[{**row, "scene": "airport-2"} for row in result.rows if row["scene"] == "s2"]
    )
    assert published_beside(renamed).empty and isinstance(published_beside(renamed), pd.DataFrame)
    assert "SM-HAD" not in summary_markdown(result)
    enhanced = [
        {**row, "detector": "RX", "label": "RX fused", "setting": "fused"}
        for row in result.rows
        if row["label"] == "CRD"
    ]
    both = [{**row, "label": "RX original"} if row["label"] == "RX" else row for row in result.rows] + enhanced
    assert published_beside(replace(result, rows=both)).equals(found)
    asked = fake_comparison(against="published")
    assert "SM-HAD, a README 2026" in summary_markdown(asked) and "SM-HAD" not in summary(asked)["label"].to_list()
