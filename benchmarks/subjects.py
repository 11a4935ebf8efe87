"""What is measured: a scene, the networks with their weights, and checkpoints of them for the product to load."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from data import Scene, SceneError, abu, normalise
from data.synthetic import make_scene
from models import CheckpointError, CheckpointInfo, SpaFEN, SpeFEN, load_checkpoint, save_checkpoint
from models.backbones import BACKBONE_FILE, random_seed, state_hash
from models.checkpoint import save_backbones
from models.import_released import import_released

RELEASED = {50: "HAD100/50bands", 100: "HAD100/100bands", 200: "ABU/200bands"}  # in the folder of released weights
_RELEASED_BACKBONE = RELEASED[200]


class Subjects:
    """The scene and the networks of a benchmark. A context: its temporary checkpoints go when it ends.

    Args:
        data_path: A folder of scenes, as ``test.py`` and ``FERS_ABU/test.py`` take it; None for a synthetic scene.
        scene: Which of them; None takes the first.
        released: The authors' released weights, folders as in ``RELEASED``; None for none.
        checkpoint_dir: Holds ``<sensor>_<bands>/spe_fen.safetensors`` and perhaps ``spa_fen.safetensors``.
        backbone: Frozen layers of networks without a checkpoint: ``imagenet``, ``random[:SEED]`` or a path. Given
            explicitly, no released weights are used. None means ``random`` where nothing better is at hand.

    Attributes:
        marks: Sentences that belong under every table.

    Raises:
        SceneError: No such scene.
        CheckpointError: Weights that cannot be had.
        BackboneError: Frozen layers that cannot be had.
    """

    def __init__(
        self,
        data_path: Path | None,
        scene: str | None,
        released: Path | None,
        checkpoint_dir: Path | None,
        backbone: str | None,
    ):
        self.marks: list[str] = []
        self.released = released if backbone is None and checkpoint_dir is None else None
        self.checkpoint_dir = checkpoint_dir
        self.backbone = backbone or "random"
        if self.backbone.startswith("random"):
            random_seed(self.backbone)
        if checkpoint_dir is not None and not checkpoint_dir.is_dir():
            raise CheckpointError(
                f"{checkpoint_dir}: no such folder. Give one that holds <sensor>_<bands>/*.safetensors."
            )
        self._scene, self._mask = self._read(data_path, scene)
        self._networks: dict[int, tuple[SpeFEN, SpaFEN]] = {}
        self._temporary = tempfile.TemporaryDirectory(prefix="fers_bench_")

    def __enter__(self) -> Subjects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._temporary.cleanup()

    @property
    def temporary(self) -> Path:
        """A folder that goes with this object."""
        return Path(self._temporary.name)

    def scene(self, bands: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        """A normalised square scene and its mask: a cut of the scene, or the scene mirrored to that size.

        Returns:
            ``(side, side, bands)`` float32 in [-0.1, 0.1], ``(side, side)`` bool.
        """
        cube, mask = self._scene.cube, self._mask
        rows, columns = np.nonzero(mask)
        top, left = (
            int(np.clip(np.median(at) - side // 2, 0, max(0, length - side))) if len(at) else 0
            for at, length in zip((rows, columns), mask.shape, strict=True)
        )
        cube, mask = (array[top : top + side, left : left + side] for array in (cube, mask))
        h = normalise(Scene(self._scene.name, cube, self._scene.path), bands)
        missing = [(0, side - length) for length in mask.shape]
        return np.pad(h, [*missing, (0, 0)], mode="symmetric"), np.pad(mask, missing, mode="symmetric")

    def networks(self, bands: int) -> tuple[SpeFEN, SpaFEN]:
        """Plain Spe-FEN and Spa-FEN in eval mode on the CPU, the same objects each time."""
        if bands not in self._networks:
            given = self._given(bands)
            self._networks[bands] = (self._spe_fen(bands, given).eval(), self._spa_fen(bands, given).eval())
        return self._networks[bands]

    def checkpoints(self, bands: int) -> Path:
        """A folder with those networks' checkpoints, for the product to load."""
        folder = self.temporary / f"bands_{bands}"
        if not folder.is_dir():
            networks = dict(zip(("spe_fen", "spa_fen"), self.networks(bands), strict=True))
            frozen = {network.ARCHITECTURE: network.backbone_layers().state_dict() for network in networks.values()}
            for branch, network in networks.items():
                sha256 = state_hash(frozen[network.ARCHITECTURE])
                info = CheckpointInfo(branch, bands, "benchmark", "paper", f"file:{BACKBONE_FILE}", sha256)
                save_checkpoint(network, folder / f"{branch}.safetensors", info)
            save_backbones(folder / BACKBONE_FILE, frozen)
        return folder

    def frozen_source(self) -> str:
        """Where a network without a checkpoint gets layer1 of wide_resnet101_2 from."""
        if self.released is None:
            return self.backbone
        return str(self._imported(_RELEASED_BACKBONE).with_name(BACKBONE_FILE))

    def _spe_fen(self, bands: int, given: Path | None) -> SpeFEN:
        if given is not None:
            self._mark(f"{bands} bands: Spe-FEN from {given}.")
            return load_checkpoint(given / "spe_fen.safetensors", bands)[0]
        if self.released and bands in RELEASED:
            self._mark(f"{bands} bands: Spe-FEN is the authors' released one, {RELEASED[bands]}; layer1 is ImageNet's.")
            return load_checkpoint(self._imported(RELEASED[bands]), bands)[0]
        layers = "layer1 is ImageNet's" if self.released else _says(self.backbone, "layer1")
        self._mark(f"{bands} bands: Spe-FEN is untrained; {layers}.")
        return SpeFEN(bands, self.frozen_source())

    def _spa_fen(self, bands: int, given: Path | None) -> SpaFEN:
        if given is not None and (given / "spa_fen.safetensors").is_file():
            self._mark(f"{bands} bands: Spa-FEN from {given}.")
            return load_checkpoint(given / "spa_fen.safetensors", bands)[0]
        self._mark(f"Spa-FEN is untrained; {_says(self.backbone, 'ResNet-34')}.")
        return SpaFEN(bands, self.backbone)

    def _imported(self, name: str) -> Path:
        path = self.temporary / "released" / name.replace("/", "_") / "spe_fen.safetensors"
        if not path.is_file():
            import_released(self.released / name, path, "benchmark")
        return path

    def _given(self, bands: int) -> Path | None:
        if self.checkpoint_dir is None:
            return None
        folders = [self.checkpoint_dir, *sorted(self.checkpoint_dir.glob(f"*_{bands}"))]
        for folder in folders:
            path = folder / "spe_fen.safetensors"
            if path.is_file() and load_checkpoint(path)[1].bands == bands:
                return folder
        return None

    def _mark(self, sentence: str) -> None:
        if sentence not in self.marks:
            self.marks.append(sentence)

    def _read(self, data_path: Path | None, name: str | None) -> tuple[Scene, np.ndarray]:
        if data_path is None:
            made = make_scene(seed=0, index=0)
            self._mark("The scene is synthetic (data.synthetic, seed 0).")
            return Scene("synthetic", made.cube, Path("synthetic")), made.mask
        scenes = abu.scenes(data_path, None, name or "all")
        if not scenes:
            raise SceneError(f"{data_path}: no scene here.")
        self._mark(f"The scene is {scenes[0].name} of {data_path}.")
        return scenes[0].load()


def _says(source: str, layers: str) -> str:
    if source.startswith("random"):
        return f"{layers} is RANDOM, not ImageNet's (no dead channels to cut)"
    return f"{layers} is {'ImageNet' if source == 'imagenet' else source}'s"
