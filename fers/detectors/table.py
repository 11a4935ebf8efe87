"""The detectors by name. A new one is one file in this folder and one row of ``DETECTORS``.

The table imports a detector only when one is made, so command lines show it without waiting for PyTorch.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from fers.util.errors import FersError, did_you_mean

if TYPE_CHECKING:
    from fers.detectors.base import Detector


@dataclass(frozen=True)
class Entry:
    """A row of ``DETECTORS``.

    Attributes:
        place: Place of the class, ``module:Name``. It takes ``seed`` by name if it has random weights.
        trains_on: Data that the detector is fitted to: ``nothing``; the ``scene`` itself, so results depend on the seed; or
            ``background`` scenes, before the test, so it needs a checkpoint.
        fusion: The fusion that fused features get by default: ``by bands`` is A up to 50 bands and B above.
        cite: Source.
        unit: Unit of its scores, for the colour bar of a map.
        cost: Seconds for a scene of 100 x 100 px and 200 bands on one core, about: the fastest are compared first.
        note: What a reader of its scores must know: what published codes really do, what is tuned in print.
    """

    place: str
    trains_on: Literal["nothing", "scene", "background"] = "nothing"
    fusion: Literal["by bands", "B"] = "by bands"
    cite: str = ""
    unit: str = "score"
    cost: float = 0.1
    note: str = ""  # what published codes really do, and other things a reader of a table must know

    def load(self) -> Callable[..., Any]:
        """Import the class, or the user's function."""
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(module), name)


DETECTORS: dict[str, Entry] = {
    "RX": Entry(
        "fers.detectors.rx:RX", cite="Reed and Yu, IEEE Trans. ASSP 38(10), 1990", unit="squared Mahalanobis distance"
    ),
    "AE": Entry(
        "fers.detectors.ae:AE",
        trains_on="scene",
        fusion="B",
        cite="Jin, Zhu and Guo, arXiv 2510.18781, section IV-B",
        cost=3,
    ),
    "LRX": Entry(
        "fers.detectors.lrx:LRX",
        cite="Reed and Yu, IEEE Trans. ASSP 38(10), 1990; Kwon, Der and Nasrabadi, Opt. Eng. 42(11), 2003",
        unit="squared Mahalanobis distance",
        cost=25,
    ),
    "KRX": Entry("fers.detectors.krx:KRX", cite="Kwon and Nasrabadi, IEEE TGRS 43(2), 2005", cost=2),
    "CRD": Entry("fers.detectors.crd:CRD", cite="Li and Du, IEEE TGRS 53(3), 2015", cost=9),
    "2S-GLRT": Entry(
        "fers.detectors.glrt:TwoStepGLRT",
        cite="Liu, Hou, Li, Tao, Orlando and Li, IEEE TNNLS 33(10), 2022",
        cost=25,
    ),
    "LRX-PC": Entry("fers.detectors.local_pc:LRXPC", cite="this project", cost=0.3),
    "Auto-AD": Entry(
        "fers.detectors.auto_ad:AutoAD",
        trains_on="scene",
        fusion="B",
        cite="Wang et al., IEEE TGRS 60, 5503314, 2022",
        cost=100,
    ),
    "LREN": Entry(
        "fers.detectors.lren:LREN",
        trains_on="scene",
        fusion="B",
        cite="Jiang et al., AAAI 35(5), 4139-4146, 2021",
        cost=60,
    ),
    "RX-OAS": Entry(
        "fers.detectors.rx_oas:OASRX",
        cite="Chen, Wiesel, Eldar and Hero, IEEE Trans. Signal Processing 58(10), 2010",
        unit="squared Mahalanobis distance",
        note="RX with a covariance that closed-form shrinkage makes invertible however few the pixels are. "
        "It depends on the scale of a band.",
    ),
    "AED": Entry(
        "fers.detectors.aed:AED",
        cite="Kang et al., IEEE TGRS 55(10), 2017",
        cost=0.7,
        note="One area, 25 px, for all scenes. Tables in print choose it for each scene by AUC, from 5 to 250 px. Objects "
        "larger than the area vanish. No spectrum is used beyond three principal components.",
    ),
    "FrFE": Entry(
        "fers.detectors.frfe:FrFE",
        cite="Tao, Zhao, Li, Li and Du, IEEE JSTARS 12(12), 2019",
        unit="squared Mahalanobis distance",
        cost=2,
        note="The order of the transform is that of the largest entropy plus 0.1: a slip of the published code, from which "
        "every published figure comes. RX uses the pseudo-inverse, where that code inverts a singular covariance.",
    ),
    "PCA-TLRSR": Entry(
        "fers.detectors.tlrsr:PCATLRSR",
        cite="Wang, Wang, Hong, Roy and Chanussot, IEEE Trans. Cybernetics 53(1), 2023",
        cost=4,
        note="One setting for all scenes: 10 components, and the weights of the paper's text. The released script and all "
        "figures in print have other ones for each scene.",
    ),
    "LSMAD-r3": Entry(
        "fers.detectors.lsmad:LSMAD",
        trains_on="scene",
        fusion="by bands",
        cite="Zhang, Du, Zhang and Wang, IEEE TGRS 54(3), 2016",
        unit="squared Mahalanobis distance",
        cost=5,
        note="Several methods go by the name LSMAD. Here: rank 3, a sparse part of 0.2 % of the values, pseudo-inverse. "
        "The code that tables use has rank 28 and no sparse part at all, so it is nearly RX on 28 components. The paper "
        "inverts a covariance of low rank as if it had full rank. Ranks in print are chosen for each scene.",
    ),
    "KIFD": Entry(
        "fers.detectors.kifd:KIFD",
        trains_on="scene",
        fusion="by bands",
        cite="Li, Zhang, Duan and Kang, IEEE TGRS 58(1), 2020",
        cost=11,
        note="Results differ from seed to seed; the published code seeds its forests by the clock and cannot be repeated. "
        "3,000 training pixels instead of 10,000. Large objects are lowered on purpose.",
    ),
    "PTA": Entry(
        "fers.detectors.pta:PTA",
        cite="Li, Li, Qu, Zhao, Tao and Du, IEEE TNNLS 33(3), 2022",
        cost=11,
        note="One setting for all scenes: all weights 1, rank 10, penalty 0.01. Tables in print tune rank and penalty for each "
        "scene, or keep those of one demo: that alone moves AUC by 0.15. The published code gives directions "
        "without variance random vectors; here they take no part.",
    ),
    "LRASR-K15": Entry(
        "fers.detectors.lrasr:LRASR",
        trains_on="scene",
        fusion="by bands",
        cite="Xu, Wu, Li, Plaza and Wei, IEEE TGRS 54(4), 2016",
        cost=19,
        note="15 clusters of 20 atoms, both weights 0.1, as the paper. Published codes differ in weights and penalties, and one "
        "takes the first 20 pixels of a cluster instead of the nearest. The dictionary depends on the seed.",
    ),
}
"""The detectors by their names in the paper's tables."""


def known_name(name: str) -> str:
    """Spell a detector's name as the table does, whatever its case; ``module:Name`` stays as it is.

    Raises:
        FersError: There is no such detector.
    """
    by_lower = {key.lower(): key for key in DETECTORS}
    if ":" in name or name.lower() in by_lower:
        return by_lower.get(name.lower(), name)
    raise FersError(
        f"--detect {name}: no detector '{name}'.{did_you_mean(name, DETECTORS)} Choose from {', '.join(DETECTORS)}, "
        "or module:Name of your own."
    )


def find_detector(name: str) -> Entry:
    """Find the row of a detector, or make one for a class or function of the user's.

    Args:
        name: A key of ``DETECTORS`` in any case, or ``module:Name`` of something callable that follows
            ``fers.detectors.base.Detector``. A class is made first, with ``seed`` if it takes one; a function is used as it is.
            The module is looked for in the current folder first, as ``python -m`` does.

    Raises:
        FersError: There is no such detector.
    """
    if (known := known_name(name)) in DETECTORS:
        return DETECTORS[known]
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    entry = Entry(name, trains_on="scene", fusion="B", cite=name)
    try:
        found = entry.load()
    except (ImportError, AttributeError, ValueError) as error:
        raise FersError(
            f"--detect {name}: cannot be imported ({error}). Give module:Name, as Python finds it."
        ) from error
    if not callable(found):
        raise FersError(f"--detect {name}: is not callable. It takes a cube (N, C, H, W) and returns (N, H, W).")
    return entry


def make_detector(name: str, seed: int = 0, options: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> Detector:
    """Make a detector from what a command line gives.

    Args:
        name: Name as in ``find_detector``.
        seed: Seed of its random weights, if it has any.
        options: Its own options by name, as text; each is read as the type of the option's default.

    Raises:
        FersError: There is no such detector, or an option is unknown or of the wrong type; the message lists those
            there are.

    Example:
        >>> make_detector("AE", options={"iterations": "3"}).iterations
        3
    """
    make: Any = find_detector(name).load()
    given = dict(options)
    if not inspect.isclass(make):
        if given:
            raise FersError(f"--option {next(iter(given))}: {name} is a function and has no options.")
        return cast("Detector", make)
    known = {p.name: p for p in inspect.signature(make).parameters.values() if p.kind is not p.VAR_KEYWORD}
    arguments: dict[str, object] = {"seed": seed} if "seed" in known else {}
    choices = {key: p.default for key, p in known.items() if key != "seed" and p.default is not p.empty}
    for key, text in given.items():
        if key not in choices:
            has = ", ".join(f"{k}={v}" for k, v in choices.items()) or "none"
            raise FersError(f"--option {key}={text}: {name} has no such option. It has: {has}.")
        kind = type(choices[key])
        try:
            arguments[key] = (
                text.lower() in ("1", "true", "yes") if kind is bool else text if kind is type(None) else kind(text)
            )
        except ValueError as error:
            raise FersError(f"--option {key}={text}: {name} needs a value such as {choices[key]}.") from error
    return cast("Detector", make(**arguments))
