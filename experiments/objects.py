"""The yardstick of docs/beyond.md, objects found at few false alarms, and the study of fusion D by it.

    fers compare --scenes data/ABU,data/scenes --backbone random --seeds 0,1,2 \
      --detect RX,AED,GAED-guide,RX@untrained-C,RX@untrained-D --save_dir results/objects
    python -m experiments.leaderboard results/objects objects    keep it, for ``yardstick``, ``difference`` and ``gains``
    python -m experiments.objects data/ABU,data/scenes           write objects_study.csv and objects_cost.csv

The measures were fixed before any setting was tried. The last command scores the same scenes as they are, at other numbers
of bands and sizes, with targets planted beside their own, and the synthetic benchmark, with one seed of the network.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from tqdm import tqdm

from experiments import RESULTS
from experiments.leaderboard import kept
from fers.comparison.places import compared_scenes
from fers.comparison.summary import scene_values
from fers.datasets.catalogue import CATALOGUE
from fers.datasets.synthetic.benchmark import make_scene
from fers.detectors.background import Background
from fers.evaluation.metrics import MEASURES, objects_of, scene_measures
from fers.evaluation.statistics import mean_interval
from fers.evaluation.tables import markdown
from fers.scenes import Scene
from fers.scenes.normalise import normalise
from fers.scoring import fusion_d
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import write_whole

YARDSTICK = ("objects@100", "objects@1000", "ap", "pd@1e-3", "pd@1e-2", "auc")
STUDY, COST = RESULTS / "objects_study.csv", RESULTS / "objects_cost.csv"
DOUBLED = (
    "airport-1",
    "airport-2",
    "airport-3",
    "beach-2",
    "urban-1",
    "urban-3",
    "urban-5",
    "hydice-urban",
    "san-diego",
)
PLANTED, LARGEST = 8, 150  # targets in a scene, and the area of the largest in px


class Choice(NamedTuple):
    """The free numbers of fusion D: length of the lines, components, weight of log T, share of the opened score."""

    length: int = fusion_d.LENGTH
    components: int = fusion_d.COMPONENTS
    weight: float = 0.5
    share: float = 0.5


GRID = [Choice(*each) for each in itertools.product((15, 21, 31), (1, 3, 10), (0.0, 0.5, 1.0), (0.0, 0.5, 0.7))]
PARTS = {"C and T": Choice(share=0), "C less its opening": Choice(weight=0), "D": Choice()}


@dataclass(frozen=True, eq=False)
class Case:
    """A scene as it is, or changed: the cube ``(H, W, C)`` normalised, truth and left_out ``(H, W)``."""

    kind: str
    name: str
    cube: np.ndarray
    truth: np.ndarray
    left_out: np.ndarray | None = None


# ----- the scenes


def cases(places: str) -> Iterator[Case]:
    """Yield every scene of some places as it is, at fewer bands, smaller, larger, and with targets planted; then synthetic ones."""
    loaded = {found.labelled.name: found.labelled.load() for found in compared_scenes(places).scenes}
    cubes = {name: normalise(scene, scene.bands) for name, (scene, _) in loaded.items()}
    spectra = {name: _spectra(cubes[name], truth) for name, (_, truth) in loaded.items()}
    for name, (scene, truth) in loaded.items():
        cube = cubes[name]
        yield Case("as they are", name, cube, truth)
        for bands in (50, 100):
            yield Case(f"{bands} bands", name, normalise(scene, bands), truth)
        height, width = (side // 2 for side in truth.shape)
        quarters = cube[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
        smaller = truth[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3)) >= 0.5
        yield Case("half the size", name, quarters.mean((1, 3)), smaller)
        if name in DOUBLED:
            yield Case(
                "twice the size", name, ndimage.zoom(cube, (2, 2, 1), order=1), np.kron(truth, np.ones((2, 2))) > 0
            )
        others = [spectrum for other, found in spectra.items() if other != name for spectrum in found]
        for seed in (0, 1):
            rng = np.random.RandomState([seed, len(name), *name.encode()])
            yield Case("planted targets", f"{name} {seed}", *plant(cube, truth, others, rng))
    for seed, index in itertools.product(range(2), range(12)):
        made = make_scene(seed, index)
        yield Case("synthetic", f"{seed} {index}", normalise(Scene("made", made.cube, STUDY), 200), made.truth)


def plant(
    cube: np.ndarray, truth: np.ndarray, spectra: Sequence[np.ndarray], rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plant targets into the background of a scene.

    Each has the spectrum of an object or pixel of another scene, the same as the one before in six of ten cases. It covers 1 to 150 px,
    as a turned rectangle, ellipse or cross with soft edges, and 10 to 100 % of each of these.

    Args:
        cube: ``(H, W, C)``.
        truth: ``(H, W)``: the scene's own objects, which no target touches.
        spectra: Spectra of other scenes, of any number of bands.
        rng: Source of chance.

    Returns:
        The new cube; which pixels a target covers by at least half of what it covers anywhere; and the own objects and
        2 px around them, which do not count.
    """
    cube, planted, taken = cube.copy(), np.zeros_like(truth), ndimage.binary_dilation(truth, iterations=4)
    spectrum, count = None, 0
    while count < PLANTED:
        cover = _cover(float(np.exp(rng.uniform(0, np.log(LARGEST)))), rng)
        side = len(cover)
        if side >= min(truth.shape):
            continue
        row, column = (rng.randint(0, length - side + 1) for length in truth.shape)
        here = np.s_[row : row + side, column : column + side]
        seen = cover > 0.02
        if taken[here][seen].any():
            continue
        if spectrum is None or rng.rand() < 0.4:
            drawn = spectra[rng.randint(len(spectra))]
            spectrum = np.interp(np.linspace(0, 1, cube.shape[2]), np.linspace(0, 1, len(drawn)), drawn)
        part = (np.exp(rng.uniform(np.log(0.1), 0)) * cover)[..., None]
        cube[here] += part * (spectrum * (1 + 0.03 * rng.randn(side, side, 1)) - cube[here])
        planted[here] |= cover >= cover.max() / 2
        taken[here] |= ndimage.binary_dilation(seen, iterations=3)
        count += 1
    return cube, planted, ndimage.binary_dilation(truth, iterations=2)


def _cover(area: float, rng: np.random.RandomState) -> np.ndarray:
    """Draw a shape of some area: the share of each pixel that it covers, ``(side, side)`` in [0, 1]."""
    side, fine = 2 * int(1.8 * np.sqrt(area)) + 7, 5
    down, across = (np.mgrid[: side * fine, : side * fine] + 0.5) / fine - side / 2
    turn, ratio = rng.uniform(0, np.pi), np.exp(rng.uniform(0, np.log(3)))
    u, v = np.abs(across * np.cos(turn) + down * np.sin(turn)), np.abs(down * np.cos(turn) - across * np.sin(turn))
    kind, long = rng.randint(3), np.sqrt(area * ratio)
    if kind == 0:
        inside = (u < long / 2) & (v < long / ratio / 2)
    elif kind == 1:
        inside = np.pi * (u**2 + (v * ratio) ** 2) < long**2
    else:
        arm = 0.63 * np.sqrt(area)
        inside = ((u < arm) & (v < arm / 4)) | ((v < arm) & (u < arm / 4))
    return ndimage.gaussian_filter(inside.reshape(side, fine, side, fine).mean((1, 3)), 0.5)


def _spectra(cube: np.ndarray, truth: np.ndarray) -> list[np.ndarray]:
    """Mean spectra of a scene's objects, and those of 20 of its pixels."""
    numbers, count = objects_of(truth)
    pixels = cube.reshape(-1, cube.shape[2])
    some = np.random.RandomState(0).randint(len(pixels), size=20)
    return [cube[numbers == number].mean(0) for number in range(1, count + 1)] + list(pixels[some])


# ----- the study


def measured(case: Case) -> Iterator[dict]:
    """Yield what RX, fusion C and choices of fusion D reach on a case."""
    bands = case.cube.shape[2]
    for label, score in _maps(case, bands):
        found = scene_measures(score, case.truth, case.left_out)
        yield {
            "kind": case.kind,
            "scene": case.name,
            "setting": label,
            **{key: found[key] for key in ("objects", *YARDSTICK)},
        }


def _maps(case: Case, bands: int) -> Iterator[tuple[str, np.ndarray]]:
    yield "RX", Pipeline(DetectConfig(bands, features="original", device="cpu")).score(case.cube)
    config = DetectConfig(bands, features="untrained", fusion="C", backbone="random", device="cpu")
    score = torch.from_numpy(Pipeline(config).score(case.cube))
    yield "C", score.numpy()
    h = torch.from_numpy(case.cube).permute(2, 0, 1)
    [components] = Background.from_cube(h[None]).components(max(choice.components for choice in GRID))
    z = components(h)
    for choice in GRID if case.kind == "as they are" else PARTS.values():
        contrast = fusion_d.line_contrast(z[: choice.components], length=choice.length).sum(0)
        summed = score + choice.weight * (contrast + fusion_d.LEAST_CONTRAST).log()
        yield _named(choice), (summed - choice.share * fusion_d.line_opening(summed, length=choice.length)).numpy()


def _named(choice: Choice) -> str:
    return " ".join(f"{number:g}" for number in choice)


def cost() -> Iterator[dict]:
    """Yield CPU milliseconds of fusions C and D on random cubes: the least of five, in turn, on one thread."""
    torch.set_num_threads(1)
    for bands in (50, 100, 200):
        cube = np.random.RandomState(0).rand(100, 100, bands).astype(np.float32)
        pipelines = [
            Pipeline(DetectConfig(bands, features="untrained", fusion=fusion, backbone="random", device="cpu"))
            for fusion in "CD"
        ]
        times = np.empty((6, 2))
        for number in np.ndindex(times.shape):
            began = time.process_time()
            pipelines[number[1]].score(cube)
            times[number] = 1000 * (time.process_time() - began)
        of_c, of_d = times[1:].min(0)
        yield {
            "CPU ms, one thread": f"100 x 100 px, {bands} bands",
            "fusion C": f"{of_c:.0f}",
            "fusion D": f"{of_d:.0f}",
            "D / C": f"{of_d / of_c:.2f}",
        }


# ----- the tables


def yardstick(name: str) -> str:
    """Render a kept comparison by ``YARDSTICK``, a label a line: sums for objects, means for the others, over seeds."""
    values = {key: scene_values(kept(name), key) for key in YARDSTICK}
    rows = [
        [label, *(_shown(key, values[key].loc[label].mean(), values[key].shape[1]) for key in YARDSTICK)]
        for label in values["auc"].index
    ]
    return markdown(["setting", *(MEASURES[key].title for key in YARDSTICK)], rows)


def difference(name: str, label: str, reference: str) -> str:
    """Render how a label of a kept comparison differs from another by ``YARDSTICK``, paired over scenes.

    Scenes of one place are resampled together for the interval.
    """
    result, rows = kept(name), []
    groups = [scene.group for scene in result.scenes.values()]
    for key in YARDSTICK:
        values = scene_values(result, key)
        gain = values.loc[label] - values.loc[reference]
        found = mean_interval(gain.to_numpy(), groups=groups)
        mean, low, high = (
            "-" if end is None else _shown(key, end, len(gain), "+") for end in (found.mean, found.low, found.high)
        )
        worst = f"{_shown(key, gain.min(), 1, '+')} ({gain.idxmin()})"
        rows.append([MEASURES[key].title, mean, f"{low} to {high}", worst, f"{(gain < 0).sum()} of {len(gain)}"])
    return markdown(["measure", f"{label} less {reference}", "95 % interval", "worst scene", "scenes that lose"], rows)


def _shown(key: str, mean: float, scenes: int, sign: str = "") -> str:
    """A sum over scenes for objects, the mean for other measures."""
    return f"{mean * scenes:{sign}.1f}" if key.startswith("objects") else f"{mean:{sign}.4f}"


def gains(name: str, labels: Sequence[str]) -> str:
    """Render objects found, AP and AUC of some labels of a kept comparison, scene by scene."""
    result = kept(name)
    rows = [["objects", *(f"{count:.0f}" for count in scene_values(result, "objects").iloc[0])]]
    for key, digits in (("objects@100", 1), ("objects@1000", 1), ("ap", 3), ("auc", 4)):
        values = scene_values(result, key).loc[list(labels)]
        rows.append([MEASURES[key].title, *(" / ".join(f"{x:.{digits}f}" for x in values[at]) for at in values)])
    return markdown([" / ".join(labels), *result.scenes], rows)


def study() -> str:
    """Render what C and D reach on each kind of scenes, and what D's parts bring in AP, a kind a line."""
    frame, rows = pd.read_csv(STUDY), []
    names = {"RX": "RX", "C": "C"} | {part: _named(choice) for part, choice in PARTS.items()}
    for kind, of_kind in frame.groupby("kind", sort=False):
        found = {name: of_kind[of_kind.setting == setting].set_index("scene") for name, setting in names.items()}
        loss = [f"{(found[name].auc - found['RX'].auc).min():+.4f}" for name in "CD"]
        pairs = zip(_summed(found["C"]), _summed(found["D"]), strict=True)
        count = f"{kind}: {len(found['C'])} scenes, {found['C'].objects.sum():.0f} objects"
        parts = " / ".join(f"{each.ap.mean():.3f}" for each in found.values())
        rows.append([count, *(" / ".join(pair) for pair in pairs), " / ".join(loss), parts])
    head = [MEASURES[key].title for key in YARDSTICK]
    return markdown(["C / D", *head, "worst AUC against RX", f"AP: {' / '.join(names)}"], rows)


def choices() -> str:
    """Render what the choice of the free numbers is worth: the default, the choice by the other places, and the rest."""
    frame = pd.read_csv(STUDY)
    frame = frame[frame.kind == "as they are"]
    places = {scene: CATALOGUE[scene].place or scene for scene in frame.scene.unique()}
    names = [_named(choice) for choice in GRID]
    ap = frame.pivot(index="setting", columns="scene", values="ap").loc[names]
    left_out = []
    for place in dict.fromkeys(places.values()):
        inside = [scene for scene in ap.columns if places[scene] == place]
        best = ap.drop(columns=inside).mean(axis=1).idxmax()
        left_out.append(frame[(frame.setting == best) & frame.scene.isin(inside)])
    ranked = ap.mean(axis=1).sort_values(ascending=False).index
    default = _named(Choice())
    shown = {
        "C": "C",
        f"the default, {default} (place {list(ranked).index(default) + 1} of {len(ranked)} by AP)": default,
        f"best in hindsight by AP: {ranked[0]}": ranked[0],
        f"median: {ranked[len(ranked) // 2]}": ranked[len(ranked) // 2],
    }
    rows = {title: frame[frame.setting == setting] for title, setting in shown.items()}
    rows["for each place the choice with the best AP on the others"] = pd.concat(left_out)
    of_c = frame[frame.setting == "C"].set_index("scene").auc
    lines = []
    for title, found in rows.items():
        loss = found.set_index("scene").auc - of_c
        lines.append([title, *_summed(found), "-" if title == "C" else f"{loss.min():+.4f} ({loss.idxmin()})"])
    head = ["length, components, weight of log T, share of the opening", *(MEASURES[key].title for key in YARDSTICK)]
    return markdown([*head, "worst AUC against C"], lines)


def _summed(found: pd.DataFrame) -> list[str]:
    """Sums of objects, means of the other measures."""
    return [f"{found[key].sum():.0f}" if key.startswith("objects") else f"{found[key].mean():.4f}" for key in YARDSTICK]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> None:
        if len(given) != 1:
            raise FersError("python -m experiments.objects PLACES: give the folders of the scenes, with commas.")
        rows = [row for case in tqdm(cases(given[0]), unit="scene") if case.truth.any() for row in measured(case)]
        frame = pd.DataFrame(rows).astype({key: int for key in ("objects", *YARDSTICK[:2])})
        write_whole(STUDY, frame.to_csv(index=False, float_format="%.5g").encode())
        write_whole(COST, pd.DataFrame(cost()).to_csv(index=False).encode())
        print(f"wrote {STUDY} and {COST}")

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
