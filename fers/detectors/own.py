"""Detectors that others wrote: what they get, what is told of their mistakes, and which code ran.

A plain function gets the array ``(H, W, B)`` and returns ``(H, W)``. A class, an instance, and a function whose first
argument is annotated ``torch.Tensor`` get the tensor ``(N, C, H, W)`` and return ``(N, H, W)``.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fers.util.errors import FersError
from fers.util.files import sha256_of

if TYPE_CHECKING:
    import torch

RULE = (
    "A plain function gets an array (H, W, B) and returns (H, W). A class, an instance, or a function whose first "
    "argument is annotated torch.Tensor gets a tensor (N, C, H, W) and returns a tensor (N, H, W)."
)


# sha256 of the file of a class or function when it was first seen: the file may change while the code that runs does not
_files: MutableMapping[Any, str] = weakref.WeakKeyDictionary()


class DetectorError(FersError):
    """A mistake in a detector that is not this project's. The message names its file and line."""


class ArrayDetector:
    """A function of an array as a detector: ``(H, W, B)`` to ``(H, W)``, with ``left_out`` ``(H, W)`` if it takes that.

    The array is the function's own: it may change it.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.__signature__ = _signature(function)

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score whole images, ``(N, C, H, W)`` to ``(N, H, W)``."""
        import torch

        maps = []
        for number, image in enumerate(cube.permute(0, 2, 3, 1).cpu().numpy()):
            more = {} if left_out is None else {"left_out": left_out[number].cpu().numpy()}
            score = np.asarray(self.function(image.copy(), **more))
            if score.shape != image.shape[:2] or score.dtype.kind not in "biuf":
                raise DetectorError(f"gave {score.dtype} {score.shape} for an array {image.shape}. {RULE}")
            maps.append(torch.from_numpy(score.astype(np.float64)))
        return torch.stack(maps)


def takes_array(detector: object) -> bool:
    """Tell whether a detector is a function of an array, by the rule above."""
    if not (inspect.isroutine(detector) or isinstance(detector, functools.partial)):
        return False
    first = next(iter(_signature(detector).parameters.values()), None)
    annotation = getattr(first, "annotation", None)  # a string where annotations are postponed
    return str(getattr(annotation, "__name__", annotation)).strip("'").rpartition(".")[2] != "Tensor"


def is_ours(detector: object) -> bool:
    """Tell whether a detector's code is this project's."""
    return _code(detector).__module__.partition(".")[0] == "fers"


def place_of(detector: object) -> str:
    """Say where a detector of others is defined, as `` (file, line N)``; empty for this project's and where unknown."""
    if is_ours(detector):
        return ""
    try:
        code = _code(detector)
        return f" ({Path(inspect.getsourcefile(code) or '').name}, line {inspect.getsourcelines(code)[1]})"
    except (OSError, TypeError):
        return ""


@contextmanager
def blaming(detector: object, name: str) -> Iterator[None]:
    """Tell an error in code that is not this project's as one of that code.

    Raises:
        DetectorError: The code raised something. A ValueError's own message is kept, as it is meant for the user.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if is_ours(detector) or isinstance(error, MemoryError) or "memory" in f"{error}":
            raise
        where = _where_in(detector, error)
        if isinstance(error, ValueError):
            raise DetectorError(f"--detect {name}: {error}{where}") from error
        raise DetectorError(
            f"--detect {name}: stopped by {type(error).__name__}: {error}{where}. The mistake is in that code, not in "
            f"FERS. {RULE if isinstance(detector, ArrayDetector) else ''}".rstrip()
        ) from error


def code_sha256(detector: object) -> str:
    """Compute the sha256 of the code that a detector consists of: its module's file, and what the object itself carries.

    Returns:
        64 hexadecimal digits; empty where the code cannot be told, as in a notebook.
    """
    code = _code(detector)
    if code not in _files:
        file = getattr(sys.modules.get(code.__module__), "__file__", None)
        _files[code] = sha256_of(file) if file is not None and Path(file).is_file() else ""
    if not _files[code]:
        return ""
    if inspect.isclass(detector):
        carried: object = detector.__qualname__
    elif isinstance(detector, functools.partial):
        carried = detector.func, detector.args, detector.keywords
    elif code is not detector:
        carried = code.__qualname__, vars(detector)
    else:
        cells = [cell.cell_contents for cell in getattr(detector, "__closure__", None) or ()]
        body = getattr(detector, "__code__", None)
        carried = detector.__qualname__, getattr(body, "co_code", None), getattr(detector, "__defaults__", None), cells
    try:
        state = pickle.dumps(carried)
    except Exception:  # pickle raises many kinds
        return ""
    return hashlib.sha256(_files[code].encode() + state).hexdigest()


def _code(detector: Any) -> Any:
    """The class or function that a detector's code stands in."""
    detector = getattr(detector, "function", detector) if isinstance(detector, ArrayDetector) else detector
    while isinstance(detector, functools.partial):
        detector = detector.func
    return inspect.unwrap(detector) if inspect.isclass(detector) or inspect.isroutine(detector) else type(detector)


def _signature(function: Any) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some of C have none
        return inspect.Signature()


def _where_in(detector: object, error: BaseException) -> str:
    """The last line of a traceback that is in the detector's own folder; else where the detector is defined."""
    file = getattr(sys.modules.get(_code(detector).__module__), "__file__", None)
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if file and Path(frame.filename).parent == Path(file).parent]
    mine = mine or [frame for frame in frames if frame.filename.startswith("<")]  # a notebook's
    return f" ({Path(mine[-1].filename).name}, line {mine[-1].lineno})" if mine else place_of(detector)
