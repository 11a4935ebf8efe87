"""Several scenes or a folder of them, on this machine or on a cluster, with a common background if asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fers.detection.blocks import Block
from fers.detection.executors import cluster, thread_pool
from fers.detection.kept import KEPT
from fers.detection.like import nearest_entries, spectrum_in
from fers.detection.options import AFTER_SCORES, RUN, DetectOptions, SearchOptions, Work
from fers.detection.products.quicklook import refuse_without_place
from fers.detection.reopen import FinishedRun
from fers.detection.result import DetectResult
from fers.detection.scene_run import SceneRun
from fers.detection.store import BackgroundStatistics, merged
from fers.detection.streaming import collect_block, range_block
from fers.scenes.libraries import read_library
from fers.scenes.readers import Reader
from fers.scoring.pipeline import AROUND
from fers.util.errors import FersError
from fers.util.lock import locked


def detect_all(
    readers: Sequence[Reader],
    options: DetectOptions,
    work: Work,
    say: Callable[[str], None] = print,
    search: SearchOptions | None = None,
) -> None:
    """Detect anomalies in each scene and write its products. A scene that fails does not stop the others.

    Args:
        readers: The scenes.
        options: Options of the detection.
        work: Options of products and workers.
        say: Is told what happens.
        search: Options of the search in each scene.

    Raises:
        FersError: One or more scenes failed.
    """
    failed: list[str] = []
    alone, search = len(readers) == 1, search or SearchOptions()
    check_search(search)
    with _executor(work) as (pool, workers):
        runs = []
        for reader, folder in zip(readers, _folders(readers, work.save_dir), strict=True):
            with _going_on(failed, alone, say):
                runs.append((SceneRun(reader, options, workers), folder))
        shared = None
        if work.common_background and len(runs) > 1:
            with ExitStack() as locks:
                for _, folder in runs:
                    locks.enter_context(locked(folder))
                shared = _common(runs, pool, not work.quiet)
        for run, folder in runs:
            with _going_on(failed, alone, say), locked(folder):
                _detect_one(run, folder, work, search, pool, shared, say)
    _end(failed, len(readers), "scenes")


def plan_all(readers: Sequence[Reader], options: DetectOptions, say: Callable[[str], None] = print) -> None:
    """Describe what a run over each scene would do. A scene that cannot be computed does not stop the others.

    Raises:
        FersError: One or more scenes cannot be computed.
    """
    failed: list[str] = []
    for reader in readers:
        with _going_on(failed, len(readers) == 1, say):
            say(describe_plan(reader, options))
    _end(failed, len(readers), "scenes")


def _end(failed: list[str], count: int, what: str) -> None:
    if failed:
        raise FersError(f"{len(failed)} of {count} {what} failed; each is named above.")


def detect_again(
    results: Sequence[str | Path],
    said: dict[str, Any],
    work: Work,
    search: SearchOptions,
    say: Callable[[str], None] = print,
) -> None:
    """Find the targets of finished results again, by another threshold, or search their scenes for a spectrum.

    Args:
        results: Folders of finished runs.
        said: Options that the user gave, by name, and no others.
        work: Options of the products. Without ``save_dir`` among ``said``, products are written where they were.
        search: Options of the search.
        say: Is told what happens.

    Raises:
        FersError: An option needs the scores computed again, or one or more results cannot be used.
    """
    for name in ("plan", "common_background", "scheduler", "scheduler_file"):
        if name in said:
            raise FersError(
                f"--{name}: {results[0]} is a finished result, and nothing is computed. Give its scene instead."
            )
    failed: list[str] = []
    check_search(search)
    for path in results:
        with _going_on(failed, len(results) == 1, say):
            finished = FinishedRun(path)
            options = {name: said[name] for name in said.keys() & DetectOptions.__dataclass_fields__.keys()}
            format, gpkg, north_up = finished.about["products"]
            products = replace(
                work,
                format=work.format if "format" in said else tuple(format),
                gpkg=work.gpkg or gpkg,
                north_up=work.north_up or north_up,
            )
            folder = work.save_dir / finished.folder.resolve().name if "save_dir" in said else finished.folder
            with locked(folder):
                _find_again(finished, finished.options(options), folder, products, search, say)
    _end(failed, len(results), "results")


def describe_plan(reader: Reader, options: DetectOptions) -> str:
    """Describe what a run would do, and how long it would take by the time of one strip."""
    run = SceneRun(reader, options)
    plan, job = run.plan, run.job.with_range(0.0, 1.0, np.zeros(run.job.bands.count))
    strips = plan.strips
    trial = Block.of(0, [strips[len(strips) // 2]])

    def left_out(halo: int) -> np.ndarray:
        return run.rows_left_out(trial.outer_rows(plan.height, halo))

    _, ranging, reading = range_block(trial, job, left_out(0))
    _, computing, _ = collect_block(trial, job, left_out(AROUND), list(trial.strips))
    passes = ["range", "statistics", "scores"]
    if options.robust_share is not None:
        passes += ["robust statistics", "robust scores"]
    share = min(1, (plan.background_rows + 2 * AROUND) / plan.strip_rows / plan.background_every)
    seconds = (ranging + computing * (1 + share) * (len(passes) - 1) / 2) * len(strips)
    height, width, bands = reader.shape
    return "\n".join(
        [
            f"{reader.path}: {height} x {width} x {bands}, {reader.sensor or 'sensor unknown'}",
            f"  {run.bands.describe()}",
            *(f"  note: {note}" for note in run.notes),
            f"  {job.config.title}",
            f"  {len(plan.blocks)} blocks of {plan.block_strips * plan.strip_rows} rows; {plan.workers} at a time",
            f"  passes: {', '.join(passes)}",
            f"  memory: about {plan.peak / 1e9:.2f} GB; reading takes {reading / max(computing, 1e-9):.0%} of a pass",
            f"  time: about {seconds / plan.workers / 60:.1f} min{'' if run.pipeline.streams else ', and what the detector takes'}",
        ]
    )


def _detect_one(
    run: SceneRun,
    folder: Path,
    work: Work,
    search: SearchOptions,
    pool: Executor | None,
    shared: BackgroundStatistics | None,
    say: Callable[[str], None],
) -> None:
    identity = run.identity | {"common": shared is not None, **_after_scores(work, search)}
    if work.north_up:
        refuse_without_place(run.place, run.name)
    if not work.force and _finished(folder / RUN, identity):
        say(f"{folder}: is finished already, with the same options. Give --force to compute it again.")
        return
    if not work.force and (folder / KEPT).is_file() and _finished(folder / RUN, identity, scores_only=True):
        say(f"{folder}: its scores are used again. Give --force to compute them again.")
        _find_again(FinishedRun(folder), run.options, folder, work, search, say)
        return
    with _pool_of(run, pool) as executor:
        result = run.detect(executor, folder / ".work", not work.quiet, shared)
    for note in run.notes:
        say(f"note: {run.reader.path}: {note}")
    result.about |= identity
    _search_and_write(result, folder, work, search, say)
    run.clear(folder / ".work")


def _find_again(
    finished: FinishedRun,
    options: DetectOptions,
    folder: Path,
    work: Work,
    search: SearchOptions,
    say: Callable[[str], None],
) -> None:
    result = DetectResult.of(finished.scored(options))
    result.about |= _after_scores(work, search)
    _search_and_write(result, folder, work, search, say)


def _search_and_write(
    result: DetectResult, folder: Path, work: Work, search: SearchOptions, say: Callable[[str], None]
) -> None:
    if search.library is not None:
        nearest_entries(result, read_library(search.library))
    if search.like is not None:
        result.like(search.like, search.like_by)
    result.write(folder, work.format, work.gpkg, work.north_up)
    found = [] if result.searched is None else [f"  {result.searched}"]
    say("\n".join([result.summary(), *found, f"  {folder}/report.html"]))


def check_search(search: SearchOptions) -> None:
    """Read the files of a search, so that what is wrong with them is said before anything is computed."""
    if search.library is not None:
        read_library(search.library)
    if search.like is not None:
        spectrum_in(search.like)


def _after_scores(work: Work, search: SearchOptions) -> dict[str, Any]:
    """Entries of run.json that say which products were made of the scores."""
    return {"products": [list(work.format), work.gpkg, work.north_up], "search": asdict(search)}


@contextmanager
def _going_on(failed: list[str], alone: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Tell of what fails and go on, unless there is nothing else to do."""
    try:
        yield
    except ValueError as error:
        if alone:
            raise
        failed.append(str(error))
        say(f"failed: {error}")


def _common(runs: list[tuple[SceneRun, Path]], pool: Executor | None, progress: bool) -> BackgroundStatistics:
    """Compute one range and background; each scene's blocks are kept in its own folder."""
    first = runs[0][0]
    for run, _ in runs:
        alike = run.bands.count == first.bands.count and (run.wavelengths is None) == (first.wavelengths is None)
        if not alike or (
            run.wavelengths is not None
            and first.wavelengths is not None
            and np.abs(run.wavelengths - first.wavelengths).max() > 1
        ):
            raise FersError(
                f"{run.reader.path}: has other bands than {first.reader.path}. A common background needs the same."
            )
        if run.options.background != "scene" or run.spatial_mode is not None or not run.pipeline.streams:
            raise FersError(
                "--common_background: goes with --background scene and a detector that streams, without the spatial branch."
            )
    ranged = []
    for run, folder in runs:
        with _pool_of(run, pool) as executor:
            ranged.append(run.ranged(run.stream(executor, folder / ".work", progress)))
    low, high = min(job.low for job in ranged), max(job.high for job in ranged)
    fill = np.mean([job.fill for job in ranged if job.fill is not None], axis=0)
    parts = []
    for (run, folder), job in zip(runs, ranged, strict=True):
        with _pool_of(run, pool) as executor:
            stream = run.stream(executor, folder / ".work", progress)
            parts.append(stream.statistics(job.with_range(low, high, fill), "common statistics"))
    return merged(parts)


def _finished(path: Path, identity: dict, scores_only: bool = False) -> bool:
    """Tell whether a run is finished with these options; with ``scores_only``, those that its scores depend on."""
    try:
        about = dict(json.loads(path.read_text()))
        wanted = json.loads(json.dumps(identity))
        if scores_only:
            if any("statistics" in each["options"]["known_from"] for each in (about, wanted)):
                return False
            for each in (about, wanted):
                each["files"].pop(each["options"]["known"], None)
            del wanted["products"], wanted["search"]
            for name in AFTER_SCORES:
                del wanted["options"][name]
        about["options"] = {key: value for key, value in about["options"].items() if key in wanted["options"]}
        return all(about.get(key) == value for key, value in wanted.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False  # missing or damaged


def _folders(readers: Sequence[Reader], out: Path) -> list[Path]:
    """Name a folder for each scene; scenes of the same name get a number."""
    folders: list[Path] = []
    for reader in readers:
        name = Path(reader.path).stem
        number = sum(folder.name == name or folder.name.startswith(f"{name}~") for folder in folders)
        folders.append(out / (f"{name}~{number + 1}" if number else name))
    return folders


@contextmanager
def _executor(work: Work) -> Iterator[tuple[Executor | None, int | None]]:
    if work.scheduler is None and work.scheduler_file is None:
        yield None, None
    else:
        with cluster(work.scheduler, work.scheduler_file) as found:
            yield found


@contextmanager
def _pool_of(run: SceneRun, pool: Executor | None) -> Iterator[Executor]:
    """Give the cluster, or as many threads as the run's memory allows."""
    if pool is not None:
        yield pool
    else:
        with thread_pool(run.plan.workers) as threads:
            yield threads
