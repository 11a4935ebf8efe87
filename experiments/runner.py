"""Run the settings of an experiment, reuse what is done, and keep one CSV row for each run and scene.

experiments/<name>.toml            the settings, one table a row
results/reproduce/<data set>/      score maps and results.json of each run
experiments/results/<name>.csv     what the documents are rendered from
"""

from __future__ import annotations

import csv
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fers.scoring.views import VIEWS

from experiments import ROOT
from experiments.jobs import Given, Machine, Score
from experiments.progress import run_all
from experiments.workspace import Workspace
from fers.networks.checkpoint import git_revision
from fers.scoring.pipeline import DetectConfig
from fers.util.errors import FersError
from fers.util.files import atomic_path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

RESULTS = ROOT / "experiments" / "results"
RUNS = ROOT / "results" / "reproduce"
COLUMNS = (
    "setting", "dataset", "data", "detect", "view", "bands", "seed", "scene", "auc", "seconds",
    "selection", "weights", "device", "machine", "revision", "date",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A row of an experiment.

    Attributes:
        name: As the tables call it.
        config: Arguments of ``DetectConfig``, without ``seed``.
        seeds: One run for each.
        scenes: As ``--scenes`` takes it.
    """

    name: str
    config: dict
    seeds: tuple[int, ...] = (0,)
    scenes: str = "all"


@dataclass(frozen=True)
class Experiment:
    """A file of settings over one benchmark.

    Attributes:
        name: The file's stem.
        benchmark: A key of ``BENCHMARKS``.
        settings: Its rows.
    """

    name: str
    benchmark: str
    settings: list[Setting] = field(default_factory=list)

    @classmethod
    def read(cls, name: str) -> Experiment:
        """Read ``experiments/<name>.toml``: what stands above the first ``[[setting]]`` holds for each of them.

        Raises:
            FersError: There is no such experiment, or its file cannot be read.
        """
        path = ROOT / "experiments" / f"{name}.toml"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            common = {k: v for k, v in content.items() if k not in ("benchmark", "setting")}
            rows = [{**common, **row} for row in content["setting"]]
            settings = [
                Setting(
                    row.pop("name"), seeds=tuple(row.pop("seeds", (0,))), scenes=row.pop("scenes", "all"), config=row
                )
                for row in rows
            ]
            return cls(name, content["benchmark"], settings)
        except FileNotFoundError as error:
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
            raise FersError(f"{path}: no such experiment. Choose among {known}.") from error
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise FersError(f"{path}: cannot be read as settings ({error!r}). Correct it.") from error


def machine() -> str:
    """Processor and cores, as the tables name the machine."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {torch.get_num_threads()} threads"


def scores_of(experiment: Experiment, setting: Setting, data: Path) -> list[Score]:
    """The jobs of a setting, one a seed.

    Args:
        experiment: It belongs to this one.
        setting: What to run.
        data: The benchmark's folder.
    """
    workspace = Workspace(experiment.benchmark, data, RUNS, setting.scenes)
    bands = int(setting.config.get("bands", workspace.row.bands))
    config = {key: value for key, value in setting.config.items() if key not in ("bands", "checkpoint_dir")}
    weights = None
    if "checkpoint_dir" in setting.config:
        needs = VIEWS[DetectConfig(bands, workspace.row.sensor, **config).view].needs
        folder = ROOT / setting.config["checkpoint_dir"]
        weights = Given(tuple((branch, folder) for branch in needs), workspace.folder / "weights")
    return [Score(workspace, setting.name, bands, seed, config, weights) for seed in setting.seeds]


def _rows(setting: Setting, score: Score) -> Iterator[dict]:
    found = score.results()
    config = found["config"]
    chosen = sorted({w.get("selection", "untrained") for w in config["checkpoints"].values()})
    weights = sorted({w.get("sha256", "")[:8] for w in config["checkpoints"].values()} - {""})
    for name, scene in found["scenes"].items():
        yield {
            "setting": setting.name,
            "dataset": config["dataset"],
            "data": config["data"],
            "detect": config["detect"],
            "view": config["view"],
            "bands": config["bands"],
            "seed": score.seed,
            "scene": name,
            "auc": "" if scene["auc"] is None else f"{scene['auc']:.6f}",
            "seconds": f"{scene['seconds']:.4f}",
            "selection": "+".join(chosen) if config["select"] == "last" else "oracle iteration",
            "weights": "+".join(weights),
            "device": config["device"],
            "machine": machine(),
            "revision": git_revision()[:12],
            "date": time.strftime("%Y-%m-%d"),
        }


def run(name: str, data: Path, device: str = "auto") -> Path:
    """Run an experiment as far as its weights are there, and write its CSV.

    Rows of settings that cannot be run here stay as an earlier run left them, if that was on the same data.

    Returns:
        The CSV.
    """
    experiment = Experiment.read(name)
    path = RESULTS / f"{name}.csv"
    earlier = read_rows(path)
    rows: list[dict] = []
    for setting in experiment.settings:
        try:
            jobs = scores_of(experiment, setting, data)
            run_all(jobs, Machine(device), RUNS / "log.txt")
            rows += [row for job in jobs for row in _rows(setting, job)]
        except FersError as error:
            kept = [row for row in earlier if row["setting"] == setting.name]
            print(f"left out: {setting.name}: {error}" + (f"\n  its {len(kept)} earlier rows stay" if kept else ""))
            rows += kept
    if not rows:
        raise FersError(f"{name}: no setting could be run; see above.")
    if len({row["dataset"] for row in rows}) > 1:
        raise FersError(f"{path}: holds rows of other data. Move it away, or run all settings again.")
    write_rows(path, rows)
    return path


def read_rows(path: Path) -> list[dict]:
    """The rows of a CSV; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write rows, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
