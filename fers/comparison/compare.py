"""Compare detectors over scenes by one protocol: AUC, average precision, Pd at few false alarms, seconds.

    fers compare --scenes ABU                                    every detector, the fast ones first
    fers compare --scenes HAD100 --detect RX,CRD --input_channel 50
    fers compare --scenes FOLDER --detect RX,my_module:MyDetector

Each detector sees the same normalised cube of a scene. What refuses or fails on a scene has its reason in the table, and
its mean says over how many scenes it is. A stopped comparison goes on where it was: finished cells are kept, as long as
the scene, the setting, the weights and the detector's file are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from zipfile import BadZipFile

import numpy as np
from tqdm import tqdm

from fers.datasets import abu, had100
from fers.datasets.benchmarks import BENCHMARKS
from fers.detectors.table import DETECTORS, find_detector, known_name
from fers.evaluation.metrics import SCENE_MEASURES, scene_measures
from fers.fast.process import prepare_process
from fers.scenes.normalise import NoData
from fers.scenes.scene import LabelledScene, Scene, SceneError, read_scene, read_truth
from fers.scoring.config import DetectConfig, Method
from fers.scoring.settings import FEATURES
from fers.util.commandline import Parser, positive, run
from fers.util.errors import FersError
from fers.util.files import sha256_of, visible, write_whole
from fers.util.options import add_options, option, read_options

if TYPE_CHECKING:
    import pandas as pd

    from fers.scoring.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Method):
    """Options of ``fers compare``; ``compare`` says what they mean."""

    scenes: str = option(
        "ABU", "ABU, HAD100, or a folder: in their layouts, or of .mat files with cube and truth", group="data"
    )
    bands: int | None = option(
        None, "bands of each scene that are used (default: all)", group="data", flag="--input_channel", type=positive
    )
    nodata: NoData = option(
        "refuse",
        "pixels without data: refuse the scene, keep them, or leave them out",
        group="data",
        choices=get_args(NoData),
    )
    detect: str = option("all", f"{', '.join(DETECTORS)}, module:Name, several with commas, or all", group="method")
    features: str = option("original", "what is added to the cube", group="method", choices=FEATURES)
    save_dir: Path | None = option(
        None, "folder of tables and finished cells (default: results/compare)", group="run", type=Path
    )
    threads: int | None = option(None, "CPU threads (default: PyTorch's choice)", group="run", type=positive)


@dataclass(frozen=True)
class CompareResult:
    """The result of a comparison."""

    rows: list[dict[str, Any]] = field(default_factory=list)  # one for each detector and scene, as table() shows them
    maps: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)  # by detector and scene; NaN: left out
    caveats: list[str] = field(default_factory=list)  # sentences that belong under the table

    def table(self) -> pd.DataFrame:
        """One row for each detector and scene: ``detector``, ``scene``, the measures, ``seconds``, ``note``."""
        import pandas as pd

        table = pd.DataFrame(self.rows, columns=["detector", "scene", *SCENE_MEASURES, "seconds", "note"])
        return table.astype(dict.fromkeys([*SCENE_MEASURES, "seconds"], float))

    def means(self) -> pd.DataFrame:
        """One row for each detector: means over the scenes that it has, and over how many of how many these are."""
        by_detector = self.table().groupby("detector", sort=False)
        means = by_detector[[*SCENE_MEASURES, "seconds"]].mean()
        means["scenes"] = [f"{int(rows['auc'].count())} of {len(rows)}" for _, rows in by_detector]
        return means.reset_index()

    def markdown(self) -> str:
        """The means, every cell and the caveats as Markdown."""
        from fers.evaluation.tables import markdown_table

        tables = [markdown_table(self.means()), markdown_table(self.table())]
        return "\n".join([*tables, *(f"Note: {text}\n" for text in self.caveats)])

    def write(self, folder: str | Path) -> None:
        """Write ``compare.csv``, one row for each detector and scene, and ``compare.md`` into a folder."""
        write_whole(Path(folder) / "compare.csv", self.table().to_csv(index=False).encode())
        write_whole(Path(folder) / "compare.md", self.markdown().encode())


def compare(
    detectors: str | Sequence[str],
    scenes: str | Path | Sequence[LabelledScene],
    *,
    bands: int | None = None,
    save_dir: str | Path | None = None,
    **settings: Any,
) -> CompareResult:
    """Score every scene by every detector; print the table while it goes.

    Args:
        detectors: Names of ``DETECTORS`` or ``module:Name``, as a list or with commas; ``all`` for every one.
        scenes: ``ABU``, ``HAD100``, a folder (see ``compared_scenes``), or labelled scenes.
        bands: C, the bands of each scene that are used; None for all.
        save_dir: Folder that keeps finished cells, and has those of an earlier call; None keeps none.
        **settings: As ``DetectConfig`` has them, such as ``features``, ``fusion``, ``nodata``, ``seed``, ``device``;
            features are ``original`` by default.

    Raises:
        FersError: A detector or the scenes are not there, settings do not fit together, or nothing could be scored.
    """
    labelled, sensor = compared_scenes(scenes) if isinstance(scenes, (str, Path)) else (list(scenes), "unknown")
    settings = {"sensor": sensor, "features": "original", **settings}
    names = _ordered(detectors)
    DetectConfig(bands=bands or 1, detect=names[0], **settings)  # settings that do not fit together end here
    result = CompareResult()
    width = max(10, *(len(name) + 2 for name in names)), max(10, *(len(one.name) + 2 for one in labelled))
    tqdm.write(_line(width, "detector", "scene", {key: key for key in (*SCENE_MEASURES, "seconds")}))
    with tqdm(total=len(names) * len(labelled), unit="cell", leave=False, dynamic_ncols=True, disable=None) as bar:
        for name in names:
            cells = _Cells(name, bands, settings, None if save_dir is None else Path(save_dir) / "cells")
            for one in labelled:
                row, score = cells.cell(one)
                result.rows.append({"detector": name, "scene": one.name, **row})
                if score is not None:
                    result.maps[name, one.name] = score
                tqdm.write(_line(width, name, one.name, row))
                bar.update()
            result.caveats.extend(text for text in cells.caveats() if text not in result.caveats)
    if not result.maps:
        raise FersError(f"nothing could be scored; the first reason is: {result.rows[0]['note']}")
    return result


def compared_scenes(place: str | Path) -> tuple[list[LabelledScene], str]:
    """Find the scenes of a place, and the sensor that the default checkpoints belong to.

    A place is ``ABU`` or ``HAD100``, in any case, if there is no folder of that name; or a folder in the layout of one of them; or one of .mat files, each
    with a cube and a truth of its size, such as ``data`` and ``map``.

    Raises:
        SceneError: There are no scenes.
    """
    for name, benchmark in BENCHMARKS.items():
        if str(place).lower() == name.lower() and not Path(place).is_dir():
            return benchmark.scenes(benchmark.default_folder(), None, "all"), benchmark.sensor
    folder = Path(place)
    if visible(folder, "abu-*.mat"):
        return abu.scenes(folder, names="all"), BENCHMARKS["ABU"].sensor
    if (folder / "test").is_dir():
        return had100.scenes(folder, None), "unknown"
    found = [LabelledScene(path.stem, path, partial(_load_pair, path)) for path in visible(folder, "*.mat")]
    if not found:
        raise SceneError(
            f"--scenes {place}: no scenes there. Give {', '.join(BENCHMARKS)}, a folder of .mat files that hold a cube "
            "and its truth, or one with test/<sensor>/*.npy and ground_truth/<sensor>/*.png."
        )
    return found, "unknown"


class _Cells:
    """The cells of one detector: scored, or as an earlier run left them."""

    def __init__(self, name: str, bands: int | None, settings: dict[str, Any], folder: Path | None):
        self.name, self.bands, self.settings, self.folder = name, bands, settings, folder
        self.pipelines: dict[int, tuple[Pipeline, dict]] = {}

    def caveats(self) -> list[str]:
        return [text for pipeline, _ in self.pipelines.values() for text in pipeline.caveats]

    def cell(self, labelled: LabelledScene) -> tuple[dict[str, Any], np.ndarray | None]:
        """Make the row of the table and the score map of a scene; no map where the note says why not."""
        try:
            return self._cell(labelled)
        except ValueError as error:  # refused, by a message that names the remedy
            reason = str(error)
        except Exception as error:  # a detector's mistake ends its cell, not the comparison
            reason = f"{type(error).__name__}: {error}"
        return {**dict.fromkeys([*SCENE_MEASURES, "seconds"]), "note": " ".join(reason.split())}, None

    def _cell(self, labelled: LabelledScene) -> tuple[dict[str, Any], np.ndarray]:
        from fers.evaluation.results import config_hash, truth_sha256
        from fers.scoring.pipeline import read_h

        scene, truth = labelled.load()
        bands = self.bands or scene.bands
        pipeline, config = self._pipeline(bands)
        h, left_out = read_h(pipeline.config, scene)
        left_out = left_out if left_out is not None and left_out.any() else None
        seen = h.tobytes() + (b"" if left_out is None else np.packbits(left_out).tobytes())
        fingerprint = hashlib.sha256(seen).hexdigest() + truth_sha256(truth)
        name = f"{self.name}_{labelled.name}_{config_hash({**config, 'scene': fingerprint})}.npz"
        path = None if self.folder is None else self.folder / re.sub(r"[^\w.-]", "-", name)
        if path is not None and (kept := _read_cell(path)) is not None:
            return kept
        began = time.perf_counter()
        score = pipeline.score(h, left_out)
        seconds = time.perf_counter() - began
        notes = list(scene.notes)
        if left_out is not None:
            score = np.where(left_out, np.nan, score)
            notes.append(f"{int(np.isnan(score).sum())} pixels left out")
        row: dict[str, Any] = {**scene_measures(score, truth, left_out), "seconds": seconds}
        if row["auc"] is None:
            notes.append("no AUC: the truth lacks anomalies or background")
        row["note"] = "; ".join(notes)
        if path is not None:
            buffer = io.BytesIO()
            np.savez(buffer, score=score, row=json.dumps(row))
            write_whole(path, buffer.getvalue())
        return row, score

    def _pipeline(self, bands: int) -> tuple[Pipeline, dict]:
        from fers.evaluation.results import full_config
        from fers.scoring.pipeline import Pipeline

        if bands not in self.pipelines:
            pipeline = Pipeline(DetectConfig(bands=bands, detect=self.name, **self.settings))
            code = sys.modules[find_detector(self.name).place.partition(":")[0]].__file__
            config = {**full_config(pipeline), "code": sha256_of(code) if code else ""}
            self.pipelines[bands] = pipeline, config
        return self.pipelines[bands]


def _read_cell(path: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """Cell of an earlier run; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return json.loads(str(archive["row"])), archive["score"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _ordered(detectors: str | Sequence[str]) -> list[str]:
    """Names of detectors as the table has them, each once, the fast ones first."""
    listed = [text.strip() for text in (detectors.split(",") if isinstance(detectors, str) else detectors)]
    wanted = DETECTORS if [text.lower() for text in listed] == ["all"] else filter(None, listed)
    names = list(dict.fromkeys(known_name(text) for text in wanted))
    if not names:
        raise FersError(f"--detect: no detector was named. Choose among {', '.join(DETECTORS)}, or module:Name.")
    return sorted(names, key=lambda name: find_detector(name).cost)


def _load_pair(path: Path) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path)
    return scene, read_truth(path, shape=scene.cube.shape[:2])


def _line(width: tuple[int, int], detector: str, scene: str, row: dict[str, Any]) -> str:
    """One line of the printed table."""
    values = [row[key] for key in (*SCENE_MEASURES, "seconds")]
    texts = ["-" if value is None else value if isinstance(value, str) else f"{value:.4f}" for value in values]
    note = textwrap.shorten(row.get("note", ""), 120, placeholder=" ...")
    return f"{detector:<{width[0]}}{scene:<{width[1]}}{''.join(f'{text:>10}' for text in texts)}   {note}".rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(prog="fers compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, CompareOptions)
    given = parser.parse_args(arguments)
    return run(lambda: _run_comparison(read_options(CompareOptions, given)), how_to_resume="run the same command again")


def _run_comparison(options: CompareOptions) -> None:
    prepare_process()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    save_dir = options.save_dir or Path("results/compare")
    settings = {each.name: getattr(options, each.name) for each in fields(Method) if each.name != "detect"}
    settings |= {"bands": options.bands, "nodata": options.nodata, "save_dir": save_dir}
    result = compare(options.detect, options.scenes, **settings)
    result.write(save_dir)
    print("\n" + result.means().to_string(index=False, float_format="%.4f", na_rep="-"))
    for text in result.caveats:
        print(f"Note: {text}")
    print(f"Tables and score maps: {save_dir}")


if __name__ == "__main__":
    sys.exit(main())
