"""The script for QGIS's toolbox: headless in QGIS where it is installed, and against stubs of its API everywhere."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "integrations" / "qgis" / "fers_detect.py"
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's QGIS
DRIVER = """
import importlib.util, json, sys
from qgis.core import QgsApplication, QgsProcessingContext, QgsProcessingFeedback, QgsProject
application = QgsApplication([], False)
application.initQgis()
specification = importlib.util.spec_from_file_location("fers_detect", sys.argv[1])
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
algorithm, context = module.DetectAnomalies().create(), QgsProcessingContext()
context.setProject(QgsProject.instance())
results, done = algorithm.run(json.loads(sys.argv[2]), context, QgsProcessingFeedback())
loaded = sorted(details.name for details in context.layersToLoadOnCompletion().values())
print("RESULT " + json.dumps([results, done, loaded]))
"""


@pytest.fixture
def command(tmp_path) -> str:
    """A command that keeps its arguments, and writes products as ``fers detect`` does; it fails for a rate of 0.5."""
    script = tmp_path / "fers.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(tmp_path / 'arguments.json')!r}).write_text(json.dumps(sys.argv[1:]))\n"
        "if '0.5' in sys.argv: sys.exit('error: --far 0.5: too many.')\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--save_dir') + 1], pathlib.Path(sys.argv[2]).stem)\n"
        "folder.mkdir(parents=True)\n"
        "for name in ('score.tif', 'detections.geojson'): (folder / name).touch()\n".replace("\\\n", "\n")
    )
    return f"{sys.executable} {script}"


def asked(tmp_path) -> list[str]:
    return json.loads((tmp_path / "arguments.json").read_text())


class _Plain:
    """Stands for any class of QGIS of which only the name matters."""

    Double, FlagAdvanced = 1, 2
    LayerHint = types.SimpleNamespace(Raster=1, Vector=2)

    def __init__(self, name="", *arguments, **options):
        self._name, self._flags = name, 0

    def name(self):
        return self._name

    def flags(self):
        return self._flags

    def setFlags(self, flags):
        self._flags = flags


class _Algorithm(_Plain):
    def __init__(self):
        self.parameters, self.outputs = [], []

    def addParameter(self, parameter):
        self.parameters.append(parameter)

    def addOutput(self, output):
        self.outputs.append(output)

    def parameterAsString(self, parameters, name, context):
        return str(parameters.get(name, ""))

    parameterAsFile = parameterAsString

    def parameterAsDouble(self, parameters, name, context):
        return float(parameters[name])


class _Context(_Plain):
    LayerDetails = _Plain

    def __init__(self):
        self.loaded = {}

    def project(self):
        return None

    def addLayerToLoadOnCompletion(self, path, details):
        self.loaded[path] = details.name()


class _Feedback:
    def __init__(self, stopped=False):
        self.said, self.stopped = [], stopped

    def pushInfo(self, text):
        self.said.append(text)

    pushCommandInfo = pushInfo

    def isCanceled(self):
        return self.stopped


@pytest.fixture
def module(monkeypatch):
    core = types.ModuleType("qgis.core")
    names = [line.strip(" ,\n") for line in SCRIPT.read_text().splitlines() if line.startswith("    Qgs")]
    for name in names:
        setattr(core, name, _Plain)
    core.QgsProcessingAlgorithm, core.QgsProcessingContext = _Algorithm, _Context
    core.QgsProcessingException = type("QgsProcessingException", (Exception,), {})
    monkeypatch.setitem(sys.modules, "qgis", types.ModuleType("qgis"))
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    specification = importlib.util.spec_from_file_location("fers_detect_of_qgis", SCRIPT)
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    return made


def test_parameters_become_options_and_products_are_loaded(module, tmp_path, command):
    algorithm, context = module.DetectAnomalies().createInstance(), _Context()
    algorithm.initAlgorithm()
    assert next(p.name() for p in algorithm.parameters) == "INPUT" and len(algorithm.outputs) == 3
    given = {"INPUT": tmp_path / "a.hdr", "OUTPUT": tmp_path / "out", "COMMAND": command, "FAR": 1e-3, "LIKE": "3"}
    given["OPTIONS"] = "--left_out 'two words.png'"
    results = algorithm.processAlgorithm(given, context, _Feedback())
    expected = ["detect", str(tmp_path / "a.hdr"), "--save_dir", str(tmp_path / "out"), "--quiet", "--far", "0.001"]
    assert asked(tmp_path) == [*expected, "--like", "3", "--left_out", "two words.png"]
    assert results["SCORE"] == str(tmp_path / "out" / "a" / "score.tif")
    assert sorted(context.loaded.values()) == ["a detections", "a score"]


def test_a_result_is_named_by_its_folder(module, tmp_path, command):
    given = {"INPUT": tmp_path / "line" / "run.json", "OUTPUT": tmp_path / "out", "COMMAND": command}
    results = module.DetectAnomalies().processAlgorithm(given, _Context(), _Feedback())
    assert results["PAGE"] == str(tmp_path / "out" / "line" / "report.html") and "--far" not in asked(tmp_path)


def test_a_failure_is_told_with_the_last_line_of_the_command(module, tmp_path, command):
    given = {"INPUT": "a.hdr", "OUTPUT": tmp_path, "COMMAND": command, "FAR": 0.5}
    failure = sys.modules["qgis.core"].QgsProcessingException
    with pytest.raises(failure, match="too many"):
        module.DetectAnomalies().processAlgorithm(given, _Context(), _Feedback())
    with pytest.raises(failure, match="pip install fers-had"):
        module.DetectAnomalies().processAlgorithm(given | {"COMMAND": "no-such-command"}, _Context(), _Feedback())


def _has_qgis() -> bool:
    try:
        return subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not _has_qgis(), reason="QGIS is not installed for /usr/bin/python3 (apt-get install python3-qgis)")
def test_qgis_itself_runs_the_script(tmp_path, command):
    given = {"INPUT": str(tmp_path / "a.hdr"), "OUTPUT": str(tmp_path / "out"), "COMMAND": command, "FAR": 1e-3}
    (tmp_path / "a.hdr").touch()
    environment = {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    arguments = [PYTHON, "-c", DRIVER, str(SCRIPT), json.dumps(given)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environment)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    results, finished, loaded = json.loads(line[7:])
    assert finished and loaded == ["a detections", "a score"]
    assert results["DETECTIONS"] == str(tmp_path / "out" / "a" / "detections.geojson")
    assert asked(tmp_path)[-2:] == ["--far", "0.001"]
