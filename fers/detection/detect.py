"""``fers.detect``: the score map and the targets of a scene in a file or an array."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from fers.detection.executors import thread_pool
from fers.detection.inputs import open_source
from fers.detection.options import DetectOptions, in_todays_words, is_result
from fers.detection.reopen import FinishedRun
from fers.detection.result import DetectResult
from fers.detection.scene_run import SceneRun
from fers.detection.xarrays import is_data_array, open_data_array
from fers.scenes.readers import Reader
from fers.util.lock import locked


def detect(
    source: str | Path | np.ndarray | Reader | Any,
    save_dir: str | Path | None = None,
    *,
    wavelengths: str | Path | np.ndarray | None = None,
    transform: Affine | None = None,
    crs: str | None = None,
    progress: bool = False,
    **options: Any,
) -> DetectResult:
    """Detect anomalies in one scene.

    Args:
        source: A file of any format that ``fers.scenes.readers.open_scene`` knows; an array ``(H, W, B)``; an xarray.DataArray
            with y, x and bands; or the folder of a finished result, for another threshold.
        save_dir: Folder for the products; None writes nothing.
        wavelengths: ``(B,)`` band centres in nm, or a file of them, where the source has none.
        transform: Transform of an array from column and row to map coordinates.
        crs: CRS of an array, as WKT or such as ``EPSG:32632``.
        progress: Show bars with the time left.
        **options: Options of ``DetectOptions``: ``detect``, ``features``, ``fusion``, ``far``, ``top``, ... By default the
            setting is fusion D of an untrained network.

    Returns:
        The score map and the detections. A notebook shows them as a picture.

    Raises:
        FersError: The scene or an option cannot be used.

    Example:
        >>> cube = np.random.RandomState(0).normal(size=(40, 30, 8)).astype(np.float32)
        >>> cube[12, 7] += 9
        >>> result = detect(cube, features="original", far=1e-3)
        >>> result.detections[0]["row"], result.detections[0]["column"]
        (12, 7)
    """
    save_dir = options.pop("out", save_dir)  # of earlier versions
    if isinstance(source, str | Path) and is_result(source):
        finished = FinishedRun(source)
        again = DetectResult.of(finished.scored(finished.options(in_todays_words(options))))
        if save_dir is not None:
            with locked(Path(save_dir)):
                again.write(save_dir)
        return again
    named = None if wavelengths is None or isinstance(wavelengths, np.ndarray) else str(wavelengths)
    chosen = DetectOptions(**in_todays_words(options), wavelengths=named)
    if is_data_array(source):
        reader: Reader = open_data_array(source)
    elif isinstance(source, Reader):
        reader = source
    else:
        reader = open_source(source, wavelengths, transform, crs, chosen)
    run = SceneRun(reader, chosen)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if save_dir is None else save_dir)
        stack.enter_context(locked(folder))
        result = run.detect(stack.enter_context(thread_pool(run.plan.workers)), folder / ".work", progress)
        if save_dir is not None:
            result.write(folder)
            run.clear(folder / ".work")
    return result
