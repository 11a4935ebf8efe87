"""A finished result, opened again from its folder: another threshold in seconds, without the scene's cube."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fers.detection.blocks import Plan
from fers.detection.findings import Scored
from fers.detection.inputs import trained_on, used_wavelengths
from fers.detection.job import Job
from fers.detection.kept import KEPT, Kept
from fers.detection.known import read_known
from fers.detection.options import AFTER_SCORES, RULES, RUN, DetectOptions
from fers.detection.records import Spectra, read_spectra
from fers.detection.store import BackgroundStatistics
from fers.detection.targets import RING_REACH, Target
from fers.scenes.bands import choose_bands
from fers.scenes.normalise import scaled
from fers.scenes.readers import open_scene
from fers.util.errors import FersError
from fers.util.files import fingerprint_of


class FinishedRun:
    """The folder of a finished run.

    Args:
        path: The folder, or the run.json in it.

    Attributes:
        folder: The folder.
        about: Its run.json.
        kept: Facts of the scene that were kept.

    Raises:
        FersError: The folder holds no whole result of this version.
    """

    def __init__(self, path: str | Path):
        self.folder = Path(path).parent if Path(path).name == RUN else Path(path)
        try:
            self.about: dict[str, Any] = json.loads((self.folder / RUN).read_text())
            self._recorded = dict(self.about["options"])
            self._cut = [int(v) for v in self.about["plan"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FersError(
                f"{self.folder}: its run.json cannot be read ({error}). Run fers detect on the scene again."
            ) from error
        self.kept = Kept.load(self.folder / KEPT)

    def options(self, said: dict[str, Any]) -> DetectOptions:
        """Return the options of the run, with those that were said now.

        Args:
            said: Options by name. A rule for the threshold replaces that of the run.

        Raises:
            FersError: An option needs the scores computed again.
        """
        before = self._recorded | {"value_range": _tuple(self._recorded.get("value_range"))}
        before |= {
            "options": tuple(map(tuple, before.get("options") or ())),
            "known_from": _tuple(before.get("known_from")),
        }
        if before.get("background") not in (None, "scene") and str(before["background"]).endswith(".npz"):
            before["background"] = str(self.folder / "background.npz")  # the same: the file of then may be gone
        said_now = {name: value for name, value in said.items() if _json(value) != self._recorded.get(name)}
        refused = [name for name in said_now if name not in AFTER_SCORES]
        if refused:
            raise FersError(
                f"{self.folder}: --{refused[0]} needs the scores computed again. Give the scene instead of its result: "
                f"fers detect {self.about['source']} --{refused[0]} ..."
            )
        for_statistics = "statistics" in (self._recorded.get("known_from") or ())
        if "statistics" in (said.get("known_from") or ()) or (
            for_statistics and said_now.keys() & {"known", "known_from"}
        ):
            raise FersError(
                f"{self.folder}: --not_from statistics needs the scores computed again. Give the scene instead of its "
                f"result: fers detect {self.about['source']} --not ..., or leave the places out of the list only."
            )
        if any(said.get(rule) is not None for rule in RULES):
            before |= dict.fromkeys(RULES)
        fields = DetectOptions.__dataclass_fields__
        chosen = {name: value for name, value in (before | said).items() if name in fields and value is not None}
        return DetectOptions(**chosen)

    @cached_property
    def score(self) -> np.ndarray:
        """Score map ``(H, W)`` float64, from the file's float32; NaN where nothing is scored."""
        if self.kept.score is not None:
            return self.kept.score.astype(np.float64)
        path = next((p for p in (self.folder / "score.tif", self.folder / "score.img") if p.is_file()), None)
        if path is None:
            raise FersError(f"{self.folder}: its score.tif is missing. Run fers detect on the scene again.")
        score = open_scene(path).read(bands=[0])[..., 0].astype(np.float64)
        if score.shape != tuple(self.kept.place.shape):
            raise FersError(f"{path}: is not on the grid of its scene. Run fers detect on the scene again.")
        return score

    @cached_property
    def job(self) -> Job:
        """Job that reads the scene's cube.

        Raises:
            FersError: The scene is gone, or is not what it was.
        """
        about, source = self.about, Path(self.about["source"])
        gone = f"{source}: the scene of {self.folder} "
        if not source.exists():
            raise FersError(gone + "is gone. Put it back where it was, or run fers detect on it where it is now.")
        options = self.options({})
        reader = open_scene(source, **options.reading)
        if any(about["files"].get(str(path)) != fingerprint_of(path) for path in reader.files):
            raise FersError(gone + "has changed since. Run fers detect on it again.")
        centres, count = trained_on(options)
        bands = choose_bands(reader, options.bands, count, centres)
        if bands.record() != about["bands"]:
            raise FersError(gone + "is read differently by this version. Run fers detect on it again.")
        job = Job(
            reader, bands, options.config(bands.count), colours=tuple(about["colours"]), thinning=self.kept.thinning
        )
        low, high = about["range"]
        return job.with_range(low, high, self.statistics.fill)

    @cached_property
    def statistics(self) -> BackgroundStatistics:
        """Range and moments of H."""
        return BackgroundStatistics.load(self.folder / "background.npz")[0]

    def scored(self, options: DetectOptions) -> Scored:
        """Return the score map with all that findings are made of.

        Args:
            options: As ``options`` gives them.

        Raises:
            FersError: The file of known places cannot be read.
        """
        known, described = None, ""
        if options.known is not None:
            known, found = read_known(options.known, self.kept.place, self.kept.place.shape)
            described = f"{found}, left out of {' and '.join(options.known_from)}"
        try:
            job, why = self.job, ""
        except FersError as error:
            job, why = None, f"Spectra are those of the earlier targets: {error}"
        wavelengths = self.about["wavelengths_nm"]
        if job is not None:
            wavelengths = used_wavelengths(job.reader, job.bands)
        backgrounds = [self.statistics.background(segment) for segment in range(len(self.statistics.segments))]
        height, width = self.kept.place.shape
        rows, segment, block, *counted = self._cut
        plan = Plan(height, width, len(self.statistics.fill), rows, segment, block, 1, 0, *counted)
        own = (backgrounds, plan.segment_centres)
        if job is not None:
            spectra = partial(read_spectra, job=job, backgrounds=own, wavelengths=wavelengths)
        else:
            spectra = partial(self._kept_spectra, backgrounds=own)
        earlier = [self.about.get("known"), *self.about.get("again", {}).get("notes", [])]
        notes = [note for note in (why, described) if note]
        about = self.about | {
            "options": self.about["options"] | {name: options.record()[name] for name in AFTER_SCORES},
            "notes": [note for note in self.about["notes"] if note not in earlier] + notes,
            "known": described,
            "again": {"from": str(self.folder), "threshold_before": self.about["threshold_described"], "notes": notes},
        }
        about.pop("like", None)
        return Scored(
            Path(self.about["source"]).stem,
            options,
            self.kept.place,
            self.score,
            self.about["tail"]["signed"],
            self.kept.colours,
            self.kept.thinning,
            about,
            self.about["local"],
            self.about["rank"],
            None,
            spectra,
            known,
            self.kept.left_out,
            lambda: self.job,
            self.folder,
        )

    def _kept_spectra(
        self, targets: list[Target], labels: np.ndarray, backgrounds: tuple[Sequence, np.ndarray]
    ) -> dict[int, Spectra]:
        """Spectra of targets whose peaks are those of targets that were found before."""
        try:
            features = json.loads((self.folder / "detections.geojson").read_text())["features"]
        except (OSError, ValueError, KeyError) as error:
            raise FersError(
                f"{self.folder}: its detections.geojson cannot be read ({error}). Run fers detect on the scene again."
            ) from error
        before = {(p["row"], p["column"]): p for p in (feature["properties"] for feature in features)}
        found: dict[int, Spectra] = {}
        step = self.kept.thinning
        for target in targets:
            record = before.get((target.row, target.column))
            if record is None or record["spectrum"] is None:
                continue
            x, y, mean = (
                np.array([np.nan if v is None else v for v in values], float)
                for values in (record["spectrum"]["x"], record["spectrum"]["y"], record["background"]["y"])
            )
            whole = np.zeros(len(self.statistics.fill))
            whole[: len(y)] = y
            background = backgrounds[0][int(np.abs(backgrounds[1] - target.row).argmin())]
            terms = background.contributions(scaled(whole, self.statistics.low, self.statistics.high))[: len(y)]
            top, left = max(target.row - RING_REACH, 0), max(target.column - RING_REACH, 0)
            rows, columns = (
                np.arange(start, min(at + RING_REACH + 1, side)) // step
                for start, at, side in zip((top, left), (target.row, target.column), labels.shape, strict=True)
            )
            found[target.rank] = Spectra(
                x if record["spectrum"]["xUnit"] != "Index" else None,
                y,
                mean,
                np.full(len(y), np.nan),
                terms / terms.sum() if terms.sum() > 0 else terms,
                self.kept.colours[np.ix_(rows, columns)].astype(np.float64),
                (top, left),
            )
        return found


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
