"""The detectors of a comparison: names, classes, instances, functions, and score maps that are ready."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fers.detectors.table import DETECTORS, detector_name, find_detector, known_name
from fers.scoring.settings import parse_setting
from fers.util.errors import FersError

FAST_SECONDS = 3.0  # cost of the slowest detector that is called fast: it takes less than a minute for all of ABU


@dataclass(frozen=True)
class Contender:
    """A detector of a comparison.

    Attributes:
        name: Its name in the table.
        detect: The detector as ``find_detector`` takes it; None where the maps are ready.
        maps: Folder of ready maps, or the maps by scene; None where there is a detector.
        setting: Its own setting; empty for those of the comparison.
        options: Its own options.
        cost: Seconds for a scene of 100 x 100 px and 200 bands.
        random: Whether the seed has a part in its scores.
    """

    name: str
    detect: Any = None
    maps: Path | Mapping[str, Any] | None = None
    setting: str = ""
    options: tuple[tuple[str, str], ...] = ()
    cost: float = 0.0
    random: bool = False


def fast_detectors() -> list[str]:
    """Name the detectors whose comparison over all of ABU takes seconds, and that need no trained weights."""
    return [name for name, entry in DETECTORS.items() if entry.cost <= FAST_SECONDS and not entry.network]


def find_contenders(
    detectors: Any,
    maps: Mapping[str, str | Path] | None = None,
    options: Iterable[tuple[str, str]] = (),
) -> list[Contender]:
    """Find the detectors of a comparison, the fast ones first.

    Args:
        detectors: Names as text with commas (``all`` and ``fast`` among them, and ``NAME@SETTING``), a class, an instance, a function; a list of
            these; or a dict from the name in the table to one of these, to a dict of score maps by scene, or to the folder
            (a Path) of such maps.
        maps: Further folders of score maps by name.
        options: Options of detectors, name and text; ``DETECTOR.NAME`` is one of a single detector.

    Raises:
        FersError: A detector is not there, two have one name, or an option belongs to none.
    """
    found: list[Contender] = []
    named = detectors.items() if isinstance(detectors, Mapping) else [("", each) for each in _one_by_one(detectors)]
    for name, each in named:
        found += [_contender(name, each)] if name else [_contender("", one) for one in _expanded(each)]
    found += [_contender(name, Path(folder)) for name, folder in (maps or {}).items()]
    kept: dict[str, Contender] = {}
    for one in found:
        if one.name in kept and kept[one.name] != one:
            raise FersError(f"--detect: two detectors are named {one.name}. Give a dict with a name for each.")
        kept[one.name] = one
    if not kept:
        raise FersError(f"--detect: no detector was named. Choose among {', '.join(DETECTORS)}, or module:Name.")
    own_options = _options(options, kept)
    return sorted((replace(one, options=own_options[one.name]) for one in kept.values()), key=lambda one: one.cost)


def _one_by_one(detectors: Any) -> list[Any]:
    if isinstance(detectors, str):
        return [part for part in map(str.strip, detectors.split(",")) if part]
    return list(detectors) if isinstance(detectors, (list, tuple, set, frozenset)) else [detectors]


def _expanded(each: Any) -> list[Any]:
    """The detectors that a name stands for: all, the fast, several with commas, or one."""
    if not isinstance(each, str):
        return [each]
    groups = {"all": list(DETECTORS), "fast": fast_detectors()}
    return [name for part in _one_by_one(each) for name in groups.get(part.lower()) or [part]]


def _contender(name: str, each: Any) -> Contender:
    if isinstance(each, (Path, Mapping)):
        if isinstance(each, Path) and not each.is_dir():
            raise FersError(f"--maps {name}={each}: no such folder. Give the folder of the score maps.")
        return Contender(name, maps=each)
    if inspect.ismodule(each):
        raise FersError(f"--detect: {each.__name__} is a module. Give the class or function in it.")
    setting = ""
    if isinstance(each, str):
        each, at, setting = each.partition("@")
        each = known_name(each)
        setting = "-".join(filter(None, parse_setting(setting))) if at else ""
        name = name or f"{each} {setting}".strip()
    entry = find_detector(each)
    random = entry.trains_on == "scene"
    return Contender(name or detector_name(each), each, setting=setting, cost=entry.cost, random=random)


def _options(pairs: Iterable[tuple[str, str]], kept: Mapping[str, Contender]) -> dict[str, tuple[tuple[str, str], ...]]:
    """The options of each detector."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in kept}
    for key, text in pairs:
        name, dot, option = key.rpartition(".")
        names = [known for known in kept if known.lower() == name.lower()] if dot else list(kept)
        if not names or (not dot and len(kept) > 1):
            raise FersError(
                f"--option {key}={text}: say which detector it is for, as DETECTOR.NAME=VALUE, with one of {', '.join(kept)}."
            )
        found[names[0]].append((option, text))
    return {name: tuple(pairs) for name, pairs in found.items()}
