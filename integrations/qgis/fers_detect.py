"""Anomaly detection as an algorithm of QGIS's Processing toolbox; ``fers detect`` does the work.

In QGIS: Processing toolbox, the Python icon, "Add Script to Toolbox", and choose this file. FERS itself stays in an environment
of its own (``pip install fers-had``); the parameter "fers command" says where. QGIS's Python needs no package.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputHtml,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterString,
    QgsProcessingUtils,
)

_OF_QGIS = ("PYTHONHOME", "PYTHONPATH")  # another Python must not see them


class DetectAnomalies(QgsProcessingAlgorithm):
    """Run ``fers detect`` on a file, and load the score map and the targets."""

    def createInstance(self) -> DetectAnomalies:
        """Return another one."""
        return DetectAnomalies()

    def name(self) -> str:
        """Return the name by which scripts and qgis_process call it."""
        return "fersdetect"

    def displayName(self) -> str:
        """Return the name in the toolbox."""
        return "Detect hyperspectral anomalies (FERS)"

    def group(self) -> str:
        """Return the heading in the toolbox."""
        return "Hyperspectral"

    def groupId(self) -> str:
        """Return the name of that heading."""
        return "hyperspectral"

    def shortHelpString(self) -> str:
        """Return the text beside the parameters."""
        return (
            "Finds pixels whose spectra are unusual in a hyperspectral scene: EMIT, PRISMA, EnMAP, DESIS, ENVI, GeoTIFF, "
            "MATLAB and others. Give run.json of an earlier result for another false-alarm rate in seconds, or to search for a "
            "spectrum: the number of a target, a row and a column, or a spectral library."
        )

    def initAlgorithm(self, configuration: dict | None = None) -> None:
        """Define parameters and outputs."""
        advanced = QgsProcessingParameterDefinition.FlagAdvanced
        parameters = [
            QgsProcessingParameterFile("INPUT", "Hyperspectral scene, or run.json of a result"),
            QgsProcessingParameterNumber(
                "FAR",
                "False-alarm rate (empty: 1e-4, or that of the result)",
                QgsProcessingParameterNumber.Double,
                optional=True,
                minValue=1e-12,
                maxValue=0.5,
            ),
            QgsProcessingParameterString(
                "LIKE", "Search: number of a target, row,column, or FILE[:NAME]", optional=True
            ),
            QgsProcessingParameterFile("NOT", "Places known already (GeoJSON or CSV)", optional=True),
            QgsProcessingParameterString("OPTIONS", "Further options of fers detect", optional=True),
            QgsProcessingParameterString("COMMAND", "fers command", "fers"),
            QgsProcessingParameterFolderDestination("OUTPUT", "Folder of results"),
        ]
        for parameter in parameters:
            if parameter.name() in ("OPTIONS", "COMMAND"):
                parameter.setFlags(parameter.flags() | advanced)
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputRasterLayer("SCORE", "Score map"))
        self.addOutput(QgsProcessingOutputVectorLayer("DETECTIONS", "Targets"))
        self.addOutput(QgsProcessingOutputHtml("PAGE", "Page"))

    def processAlgorithm(self, parameters, context, feedback) -> dict:
        """Run the command, and have its products loaded."""
        source = Path(self.parameterAsFile(parameters, "INPUT", context))
        folder = Path(self.parameterAsString(parameters, "OUTPUT", context))
        command = [
            *shlex.split(self.parameterAsString(parameters, "COMMAND", context), posix=os.name != "nt"),
            "detect",
        ]
        command += [str(source), "--save_dir", str(folder), "--quiet"]
        further = shlex.split(self.parameterAsString(parameters, "OPTIONS", context))
        if parameters.get("FAR") is not None:
            command += ["--far", f"{self.parameterAsDouble(parameters, 'FAR', context):g}"]
        for name in ("LIKE", "NOT"):
            if given := self.parameterAsString(parameters, name, context):
                command += [f"--{name.lower()}", given]
        _run([*command, *further], feedback)
        products = folder / (source.parent.resolve().name if source.name == "run.json" else source.stem)
        found = {"SCORE": products / "score.tif", "DETECTIONS": products / "detections.geojson"}
        hints = {"SCORE": QgsProcessingUtils.LayerHint.Raster, "DETECTIONS": QgsProcessingUtils.LayerHint.Vector}
        for output, path in found.items():
            if path.is_file():
                details = QgsProcessingContext.LayerDetails(
                    f"{products.name} {output.lower()}", context.project(), output, hints[output]
                )
                context.addLayerToLoadOnCompletion(str(path), details)
        return {output: str(path) for output, path in found.items()} | {
            "PAGE": str(products / "report.html"),
            "OUTPUT": str(folder),
        }


def _run(command: list[str], feedback) -> None:
    """Run a command, and pass on what it says.

    Raises:
        QgsProcessingException: It cannot be started, was stopped, or failed.
    """
    feedback.pushCommandInfo(shlex.join(command))
    environment = {name: value for name, value in os.environ.items() if name not in _OF_QGIS}
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
        )
    except OSError as error:
        raise QgsProcessingException(
            f"{command[0]}: cannot be started ({error}). Install FERS (pip install fers-had), and give its path as the "
            "fers command."
        ) from error
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line.rstrip() or last
        feedback.pushInfo(line.rstrip())
        if feedback.isCanceled():
            process.terminate()
    if process.wait() != 0:
        raise QgsProcessingException(last or f"{command[0]} ended with exit code {process.returncode}.")
