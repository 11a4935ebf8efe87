"""The detectors by name. A new one is one file in this folder and one row of ``DETECTORS``.

The table imports a detector only when one is made, so command lines show it without waiting for PyTorch.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from fers.detectors.own import ArrayDetector, blaming, code_sha256, place_of, takes_array
from fers.util.errors import FersError, did_you_mean

if TYPE_CHECKING:
    from fers.detectors.base import Detector


@dataclass(frozen=True)
class Entry:
    """A row of ``DETECTORS``.

    Attributes:
        place: Place of the class, ``module:Name``. It takes ``seed`` by name if it has random weights.
        given: A class, instance or function of the user's, which needs no place.
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
    given: Any = None
    trains_on: Literal["nothing", "scene", "background"] = "nothing"
    fusion: Literal["by bands", "B"] = "by bands"
    cite: str = ""
    unit: str = "score"
    cost: float = 0.1
    network: tuple[str, ...] = ()
    note: str = ""  # what published codes really do, and other things a reader of a table must know

    def load(self) -> Callable[..., Any]:
        """Import the class, or the user's function."""
        if self.given is not None:
            return self.given
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
        cost=6,
    ),
    "KRX": Entry("fers.detectors.krx:KRX", cite="Kwon and Nasrabadi, IEEE TGRS 43(2), 2005", cost=2),
    "CRD": Entry("fers.detectors.crd:CRD", cite="Li and Du, IEEE TGRS 53(3), 2015", cost=9),
    "2S-GLRT": Entry(
        "fers.detectors.glrt:TwoStepGLRT",
        cite="Liu, Hou, Li, Tao, Orlando and Li, IEEE TNNLS 33(10), 2022",
        cost=7,
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


def detector_name(detect: Any) -> str:
    """Name a detector as tables do: by its name in ``DETECTORS``, ``module:Name``, or that of the object given.

    Raises:
        FersError: There is no such detector.
    """
    if isinstance(detect, str):
        return known_name(detect)
    while isinstance(detect, functools.partial):
        detect = detect.func
    return getattr(detect, "__name__", type(detect).__name__)


def find_detector(detect: Any) -> Entry:
    """Find the row of a detector, or make one for a class, instance or function of the user's.

    Args:
        detect: A key of ``DETECTORS`` in any case, ``module:Name`` of something callable, or that object itself. A class
            is made first, with ``seed`` if it takes one. ``fers.detectors.own`` says what each kind gets. The module is
            looked for in the current folder first, as ``python -m`` does.

    Raises:
        FersError: There is no such detector.
    """
    name = detector_name(detect)
    if isinstance(detect, str) and name in DETECTORS:
        return DETECTORS[name]
    found = detect if not isinstance(detect, str) else _imported_detector(name)
    if not callable(found):
        raise FersError(
            f"--detect {name}: is not callable. Give a class, or a function of an array (H, W, B) that returns (H, W)."
        )
    random = inspect.isclass(found) and "seed" in _parameters(found)
    return Entry(
        name if isinstance(detect, str) else "",
        trains_on="scene" if random else "nothing",
        fusion="B",
        cite=name,
        given=None if isinstance(detect, str) else detect,
    )


def code_of(detect: Any) -> str:
    """Compute the sha256 of a detector's code, see ``code_sha256``; ``detect`` as ``find_detector`` takes it."""
    return code_sha256(find_detector(detect).load())


def _imported_detector(name: str) -> Any:
    """The object that ``module:Name`` names."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return Entry(name).load()
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        last = traceback.extract_tb(error.__traceback__)[-1]  # ours or Python's own where the module is not there
        known = "importlib" in last.filename or last.filename == __file__
        where = "" if known else f" in {os.path.basename(last.filename)}, line {last.lineno}"
        raise FersError(
            f"--detect {name}: cannot be imported ({type(error).__name__}: {error}{where}). Give module:Name, as Python "
            "finds it."
        ) from error


def _parameters(make: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a class that have names."""
    try:
        found = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some classes of C have no signature
        return {}
    return {p.name: p for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _read_as(default: Any, text: str) -> Any:
    """Read a text as the type of a default; the parts of a tuple or a list stand between commas, each like the first."""
    if isinstance(default, (tuple, list)):
        first = default[0] if default else ""
        return type(default)(_read_as(first, part.strip()) for part in text.split(","))
    if isinstance(default, bool):
        yes, no = ("1", "true", "yes"), ("0", "false", "no")
        if text.lower() not in (*yes, *no):
            raise ValueError(text)
        return text.lower() in yes
    return text if default is None else type(default)(text)


def make_detector(
    detect: Any,
    seed: int = 0,
    options: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    network: object | None = None,
) -> Detector:
    """Make a detector from what a command line gives.

    Args:
        detect: The detector as ``find_detector`` takes it.
        seed: Seed of its random weights, if it has any.
        options: Its own options by name, as text; each is read as the type of the option's default.
        network: Its trained network, for one with ``network`` in its row; ``Pipeline`` loads it from the folder of the weights.

    Raises:
        FersError: There is no such detector, it needs a network and has none, an option is unknown or of the wrong type
            (the message lists those there are), or the user's class cannot be made.

    Example:
        >>> make_detector("AE", options={"iterations": "3"}).iterations
        3
    """
    name = detector_name(detect)
    entry = find_detector(detect)
    make: Any = entry.load()
    given = dict(options)
    if not inspect.isclass(make):
        if given:
            raise FersError(f"--option {next(iter(given))}: {name} is no class and has no options.")
        return cast("Detector", ArrayDetector(make) if takes_array(make) else make)
    trained = [network] if entry.network else []
    known = dict(list(_parameters(make).items())[len(trained) :])
    arguments: dict[str, object] = {"seed": seed} if "seed" in known else {}
    choices = {key: p.default for key, p in known.items() if key != "seed" and p.default is not p.empty}
    for key, text in given.items():
        if key not in choices:
            has = ", ".join(f"{k}={v}" for k, v in choices.items()) or "none"
            raise FersError(f"--option {key}={text}: {name} has no such option. It has: {has}.")
        try:
            arguments[key] = _read_as(choices[key], text)
        except ValueError as error:
            default = choices[key]
            like = ",".join(map(str, default)) if isinstance(default, (tuple, list)) else default
            raise FersError(f"--option {key}={text}: {name} needs a value such as {like}.") from error
    if entry.network and network is None:
        raise FersError(
            f"--detect {name}: is trained on background, so it needs a network. Train one with python -m baselines.train "
            f"{entry.network[0]}, and name its folder with --checkpoint_dir."
        )
    if lacking := [key for key in known if key not in choices and key not in arguments]:
        raise FersError(
            f"--detect {name}: its constructor needs {', '.join(lacking)}, without a default{place_of(make)}. "
            "Give defaults there; or, in Python, an instance instead of the class."
        )
    with blaming(make, name):
        made = make(*trained, **arguments)
    if not callable(made):
        raise FersError(f"--detect {name}: an instance is not callable{place_of(make)}. It needs __call__(self, cube).")
    return cast("Detector", made)
