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
            ``background`` scenes, before the test, so it needs the checkpoint of a ``network``.
        fusion: The fusion that fused features get by default: ``by bands`` is A up to 50 bands and B above.
        cite: Source.
        unit: Unit of its scores, for the colour bar of a map.
        cost: Seconds for a scene of 100 x 100 px and 200 bands on one core, about: the fastest are compared first.
        network: Networks that may be trained for it, as their checkpoints are called; one is handed to the class first.
        note: What a reader of its scores must know: what published codes really do, what is tuned in print.
    """

    place: str
    trains_on: Literal["nothing", "scene", "background"] = "nothing"
    fusion: Literal["by bands", "B"] = "by bands"
    cite: str = ""
    unit: str = "score"
    cost: float = 0.1
    network: tuple[str, ...] = ()
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
    "GAED": Entry(
        "fers.detectors.gaed:GAED",
        trains_on="scene",
        fusion="B",
        cite="Xiang, Ali, Jung and Zhou, IEEE TGRS 60, 5538818, 2022",
        cost=25,
        note="Follows the released code, whose gradient is wrong at the skip connections; its AUC rests on that. "
        "Controls: GAED-guide, which is not trained, and Distance with scaling=band.",
    ),
    "GAED-guide": Entry(
        "fers.detectors.gaed:GAEDGuide",
        cite="Xiang, Ali, Jung and Zhou, IEEE TGRS 60, 5538818, 2022",
        unit="squared distance of scaled spectra",
        cost=0.4,
        note="A control for GAED: its guide, without any network.",
    ),
    "RGAE": Entry(
        "fers.detectors.rgae:RGAE",
        trains_on="scene",
        fusion="B",
        cite="Fan et al., IEEE TGRS 60, 2022",
        cost=50,
        note="As released, without a graph: the released code clears the graph's matrix while it fills it, so its term is zero. "
        "In print, three options are tuned for each scene. Control: Distance.",
    ),
    "GT-HAD": Entry(
        "fers.detectors.gt_had:GTHAD",
        trains_on="scene",
        fusion="B",
        cite="Lian, Wang, Sun and Huang, IEEE TNNLS, 2024",
        cost=310,
        note="In print, the seed is chosen for each scene. Controls: Distance, and the untrained network with epochs=0.",
    ),
    "PDBSNet": Entry(
        "fers.detectors.pdbsnet:PDBSNet",
        trains_on="scene",
        fusion="B",
        cite="Wang et al., IEEE TGRS 61, 5511914, 2023",
        cost=1700,
        note="In print, the factor is tuned for each scene; here it is 3, the released default. "
        "Controls: Distance, and the untrained network with epochs=0.",
    ),
    "RD4AD": Entry(
        "fers.detectors.rd4ad:RD4AD",
        trains_on="background",
        fusion="B",
        cite="Deng and Li, CVPR 2022, 9737-9746",
        unit="sum of cosine distances",
        cost=0.7,
        network=("rd4ad", "rd4ad_a"),
        note="Made for photographs. How the paper fitted it to many bands can be read in two ways; its code is not released. "
        "Its filter is wider than targets of a few pixels.",
    ),
    "AETNet": Entry(
        "fers.detectors.aetnet:EnhancedRX",
        trains_on="background",
        fusion="B",
        cite="Li et al., IEEE TGRS 61, 5506718, 2023",
        unit="squared Mahalanobis distance",
        cost=0.5,
        network=("aetnet",),
        note="RX on the cube that its network makes, which contains the input. Control: RX. In print, the epoch is chosen by the "
        "first test scene; here it is the last.",
    ),
    "Distance": Entry(
        "fers.detectors.distance:Distance",
        unit="squared distance of scaled spectra",
        note="A control for detectors that reconstruct pixels: RGAE, GT-HAD, PDBSNet and AE, and with scaling=band GAED.",
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


def make_detector(
    name: str,
    seed: int = 0,
    options: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    network: object | None = None,
) -> Detector:
    """Make a detector from what a command line gives.

    Args:
        name: Name as in ``find_detector``.
        seed: Seed of its random weights, if it has any.
        options: Its own options by name, as text; each is read as the type of the option's default.
        network: Its trained network, for one with ``network`` in its row; ``Pipeline`` loads it from the folder of the weights.

    Raises:
        FersError: There is no such detector, it needs a network and has none, or an option is unknown or of the wrong type; the message lists those
            there are.

    Example:
        >>> make_detector("AE", options={"iterations": "3"}).iterations
        3
    """
    entry = find_detector(name)
    make: Any = entry.load()
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
    if entry.network and network is None:
        raise FersError(
            f"--detect {name}: is trained on background, so it needs a network. Train one with python -m baselines.train "
            f"{entry.network[0]}, and name its folder with --checkpoint_dir."
        )
    return cast("Detector", make(*([network] if entry.network else []), **arguments))
