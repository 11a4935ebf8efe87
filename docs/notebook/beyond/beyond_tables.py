"""The tables of docs/beyond.md, from the CSVs beside this file: ``python beyond_tables.py`` writes tables/*.csv.

The CSVs are a frozen record of commit 0347444.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from fers.evaluation.statistics import mean_interval

SETTINGS = {  # as the CSV has them: as the tables call them
    "raw RX": "RX on the cube",
    "RX, ranks averaged": "RX on leading components, ranks averaged",
    "local term only": "local term only",
    "spectral, untrained": "spectral branch, untrained",
    "spectral, own weights": "spectral branch, own weights",
    "spectral, released": "spectral branch, released",
    "LRX-PC 11, 27 x spectral, untrained": "LRX-PC x spectral, untrained",
    "C without features": "**C, no network** (ours)",
    "C, untrained": "**C, untrained** (ours)",
    "C, three untrained": "C, mean of three untrained (ours)",
    "C, own weights": "C, own weights (ours)",
    "C, released": "**C, released** (ours)",
}
BY_BANDS = (
    "raw RX",
    "RX, ranks averaged",
    "local term only",
    "spectral, untrained",
    "spectral, released",
    "C without features",
    "C, untrained",
    "C, released",
)
HERE = Path(__file__).parent
Table = list[Sequence[str]]
DEFAULT_CHOICE = "16 5-15-35 1.0"


def spread(values: Sequence[float]) -> str:
    """A mean, with the standard deviation over seeds where there are several."""
    text = f"{fmean(values):.4f}"
    return f"{text} ± {stdev(values):.4f}" if len(values) > 1 else text


def rows_of(name: str) -> list[dict]:
    """The rows of a CSV beside this file."""
    with (HERE / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Results:
    """``scenes.csv`` by setting: AUC means over seeds, scene by scene."""

    def __init__(self, name: str = "scenes"):
        self.found: dict[tuple[str, str, int], dict[str, dict[int, float]]] = {}
        for row in rows_of(name):
            scenes = self.found.setdefault((row["setting"], row["dataset"], int(row["bands"])), {})
            scenes.setdefault(row["scene"], {})[int(row["seed"])] = float(row["auc"])

    def scenes(self, setting: str, dataset: str = "real", bands: int = 200) -> dict[str, float]:
        """Scene: AUC, the mean over seeds; empty where the setting was not run."""
        found = self.found.get((setting, dataset, bands), {})
        return {scene: float(np.mean(list(seeds.values()))) for scene, seeds in found.items()}

    def by_seed(self, setting: str, dataset: str = "real", bands: int = 200) -> list[float]:
        """The mean over scenes, seed by seed."""
        found = self.found.get((setting, dataset, bands), {})
        seeds = sorted({seed for scene in found.values() for seed in scene})
        return [float(np.mean([scene[seed] for scene in found.values()])) for seed in seeds]

    def every(self, setting: str, dataset: str = "real", bands: int = 200) -> list[tuple[str, float]]:
        """Scene and AUC of every seed."""
        found = self.found.get((setting, dataset, bands), {})
        return [(scene, auc) for scene, seeds in found.items() for auc in seeds.values()]

    def losses(self, setting: str, dataset: str = "real", bands: int = 200) -> list[tuple[float, str]]:
        """AUC less raw RX's, of every seed, with the scene; the worst first."""
        raw = self.scenes("raw RX", dataset, bands)
        return sorted((auc - raw[scene], scene) for scene, auc in self.every(setting, dataset, bands))


def whole(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Head and rows of one table."""
    return [head, *rows]


def _worst(pairs: Sequence[tuple[str, float]]) -> str:
    scene, auc = min(pairs, key=lambda pair: pair[1])
    return f"{auc:.4f} ({scene})"


_BANDS_HEAD = [f"{dataset}, {bands}" for dataset in ("real", "synthetic") for bands in (50, 100, 200)]


def _by_bands(results: Results, setting: str) -> list[str]:
    """The mean over scenes in each column of ``_BANDS_HEAD``, with its spread over seeds; empty where not run."""
    return [
        spread(values) if (values := results.by_seed(setting, dataset, bands)) else ""
        for dataset in ("real", "synthetic")
        for bands in (50, 100, 200)
    ]


def main_table() -> Table:
    """Real scenes at 200 bands: mean, interval, worst scene, worst loss, how many lose."""
    results, rows = Results(), []
    raw = results.scenes("raw RX")
    for setting, name in SETTINGS.items():
        scenes = results.scenes(setting)
        if not scenes:
            continue
        shared = ["airport-2, urban-5" if scene in ("airport-2", "urban-5") else "" for scene in raw]  # 2,000 px
        gain = mean_interval([scenes[scene] - raw[scene] for scene in raw], groups=shared)
        loss, where = results.losses(setting)[0]
        abu = [auc for scene, auc in scenes.items() if not scene.startswith(("san-", "hydice"))]
        rows.append([
            name,
            spread(results.by_seed(setting)),
            f"{np.mean(abu):.4f}",
            _worst(results.every(setting)),
            "-" if setting == "raw RX" else f"{loss:+.4f} ({where})",
            "-" if setting == "raw RX" else f"{gain.low:+.4f} to {gain.high:+.4f}",
        ])  # fmt: skip
    head = [
        "setting",
        f"mean of {len(raw)}",
        "mean of ABU's 13",
        "worst scene",
        "worst against RX",
        "95 % of the mean gain",
    ]
    return whole(head, rows)


def bands_table() -> Table:
    """Mean, worst scene and worst loss at each number of bands, real and synthetic."""
    results, rows = Results(), []
    for setting in BY_BANDS:
        row = [SETTINGS[setting]]
        for dataset in ("real", "synthetic"):
            for bands in (50, 100, 200):
                scenes = results.every(setting, dataset, bands)
                if not scenes:
                    row.append("-")
                    continue
                mean = np.mean([auc for _, auc in scenes])
                row.append(
                    f"{mean:.4f} / {min(scenes, key=lambda s: s[1])[1]:.3f} / {results.losses(setting, dataset, bands)[0][0]:+.3f}"
                )
        rows.append(row)
    return whole(
        ["mean / worst / worst against RX", *(f"{d}, {b}" for d in ("real", "synthetic") for b in (50, 100, 200))], rows
    )


def choice_table() -> Table:
    """Tabulate the choice of ranks, windows and weight by the other scenes, with the default and the whole grid."""
    grid: dict[str, dict[str, float]] = {}
    for row in rows_of("choices"):
        grid.setdefault(row["setting"], {})[row["scene"]] = float(row["auc"])
    raw = Results().scenes("raw RX")
    scenes = list(raw)
    table = np.array([[grid[name][scene] for scene in scenes] for name in grid])
    names, reference = list(grid), np.array([raw[scene] for scene in scenes])

    def line(label: str, values: np.ndarray) -> list[str]:
        return [label, f"{values.mean():.4f}", f"{values.min():.4f}", f"{(values - reference).min():+.4f}"]

    left_out = np.array([
        table[np.delete(table, s, axis=1).mean(1).argmax(), s] for s in range(len(scenes))
    ])  # fmt: skip
    means = table.mean(1)
    order = means.argsort()
    default = table[names.index(DEFAULT_CHOICE)]
    rank = int((means > default.mean()).sum()) + 1
    return whole(
        ["untrained, seed 0, 200 bands", "mean", "worst scene", "worst against RX"],
        [
            line(f"the default (place {rank} of {len(names)})", default),
            line("for each scene the choice that is best on the other scenes", left_out),
            line(f"best in hindsight: {names[order[-1]]}", table[order[-1]]),
            line("median of the grid", table[order[len(order) // 2]]),
            line(f"last of the grid: {names[order[0]]}", table[order[0]]),
        ],
    )


def scenes_table() -> Table:
    """AUC scene by scene, and of the parts of RX's distance and of the local one."""
    results = Results()
    names = ("raw RX", "spectral, untrained", "C, untrained", "C, released")
    maps = [results.scenes(name) for name in names]
    found: dict[str, dict[str, float]] = {}
    for row in rows_of("why"):
        found.setdefault(row["scene"], {})[row["what"]] = float(row["value"])
    parts = [f"components {part}" for part in ("1-5", "6-20", "21-80", "81 and on")] + ["local, 5, 15", "local, 15, 35"]
    rows = [
        [
            scene,
            *(f"{scores[scene]:.4f}" if scores else "-" for scores in maps),
            *(f"{values[f'AUC of {part}']:.3f}" if f"AUC of {part}" in values else "-" for part in parts),
            f"{values['largest object, px']:.0f}",
        ]
        for scene, values in found.items()
    ]
    heads = [SETTINGS[name].replace("**", "") for name in names]
    return whole(["scene", *heads, *parts, "largest object, px"], rows)


def product_table() -> Table:
    """Fusions A and B with a trained, an untrained and no spatial branch, by both RX."""
    results, rows = Results(), []
    teacher = "released" if any(setting.startswith("A, released") for setting, _, _ in results.found) else "untrained"
    for spatial, branch in (
        ("none", "the raw cube instead of a spatial branch"),
        ("untrained", "spatial branch untrained"),
        ("trained", "spatial branch trained"),
    ):
        labels = {f"A, {teacher}, spatial {spatial}, {rx}": f"A, {branch}, RX {rx}" for rx in ("eq. 17", "float32")}
        labels[f"B, {teacher}, spatial {spatial}"] = f"B, {branch}"
        rows += [[label, *cells] for setting, label in labels.items() if any(cells := _by_bands(results, setting))]
    return whole(["fusion", *_BANDS_HEAD], [[cell or "-" for cell in row] for row in rows])


def features_table() -> Table:
    """Networks in fusion C and by themselves: what training, and looking at neighbours, brings."""
    results, rows = Results(), []
    for name, label in (
        ("untrained", "untrained"),
        ("spectral only", "untrained, centre of each 3 x 3 kernel only"),
        ("own weights", "own weights (200 bands)"),
        ("three land scenes", "trained on three land scenes (200 bands)"),
        ("released", "released"),
    ):
        for view in ("spectral", "C"):
            if any(cells := _by_bands(results, f"{view}, {name}")):
                part = "fusion C" if view == "C" else "spectral branch"
                rows.append([f"{label}: {part}", *(cell or "-" for cell in cells)])
    return whole(["network", *_BANDS_HEAD], rows)


def cost_table() -> Table:
    """CPU time beside fusion B's."""
    times: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows_of("cost"):
        times.setdefault((row["bands"], row["side"]), {})[row["setting"]] = float(row["milliseconds"])
    rows = [
        [f"{side} x {side} px, {bands} bands", *(f"{t[k]:.0f}" for k in t), f"{t['fusion C'] / t['fusion B']:.2f}"]
        for (bands, side), t in times.items()
    ]
    return whole(["CPU ms, one thread", *next(iter(times.values())), "C / B"], rows)


TABLES: dict[str, Callable[[], Table]] = {
    "beyond": main_table,
    "beyond_bands": bands_table,
    "beyond_scenes": scenes_table,
    "beyond_choices": choice_table,
    "beyond_product": product_table,
    "beyond_features": features_table,
    "beyond_cost": cost_table,
}


if __name__ == "__main__":
    (HERE / "tables").mkdir(exist_ok=True)
    for name, make in TABLES.items():
        with (HERE / "tables" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(make())
