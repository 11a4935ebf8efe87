"""Every option that a message names can be given to the command that prints it."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import ROOT, run_had100

import baselines.train
import reproduce
import train_FERD.train
import train_FERS.train
from fers.datasets import patches
from fers.datasets.had100 import prepare
from fers.datasets.releases import RELEASES
from fers.datasets.synthetic.benchmark import write_benchmark
from fers.evaluation import command

# what follows one of these is another command's, up to the end of the sentence
OTHERS = re.compile(
    r"(fers |python |torchrun |pip |(FERS_ABU/)?(test|train)\.py|reproduce\.py|fetch the authors' one).*?([;)]|\. |$)"
)
OPTION = re.compile(r"(?<![\w-])--[a-z]\w*")
DEFINITIONS = ("option", "add_argument", "add", "many", "loss_option")

SCENES = ["fers.datasets.had100", "fers.datasets.abu", "fers.datasets.benchmarks", "fers.scenes.normalise"]
# reproduce.py makes each setting itself: what refuses features, fusions and checkpoints is another command's
SETTINGS = ["fers.scoring.config", "fers.scoring.pipeline", "fers.scoring.networks", "fers.networks.checkpoint"]
METHOD = ["fers.detectors.table", "fers.networks.backbones"]
TRAINING = [f"fers.training.{name}" for name in ("options", "run", "loop", "resume", "device")]
TRAINING += ["train_FERD.train", "train_FERS.train", "train_FERD.stage", "train_FERS.stage", "baselines.train"]
TRAINING += ["fers.datasets.patches:BackgroundPatches"]
OWN = [
    "reproduce",
    *(f"experiments.{name}" for name in ["rows", "jobs", "tables", "targets", "workspace", "cells", "plan", "explain"]),
]


def options(parser: argparse.ArgumentParser) -> set[str]:
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    found = {name for action in parser._actions for name in action.option_strings}
    return found.union(*(options(each) for action in nested for each in action.choices.values()))


TRAIN = options(train_FERD.train.parser()) | options(train_FERS.train.parser()) | options(baselines.train.parser())
COMMANDS = {
    "reproduce.py": (options(reproduce.parser()), OWN + SCENES + METHOD),
    "reproduce.py, by --training": (options(reproduce.parser()) | TRAIN, TRAINING),
    "test.py": (options(command.parser_of("HAD100", "")), SCENES + METHOD + SETTINGS + ["fers.evaluation.evaluate"]),
    "train.py": (TRAIN | {"--stage"}, [*TRAINING, "fers.networks.backbones", "fers.networks.checkpoint"]),
}


def messages(place: str) -> Iterator[str]:
    """The sentences of a module, or of one class of it: no docstrings, no help of options, no single words."""
    module, _, name = place.partition(":")
    path = ROOT.joinpath(*module.split("."))
    path = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    tree: ast.AST = ast.parse(path.read_text())
    if name:
        tree = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    seen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            seen.add(id(node.body[0].value))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in DEFINITIONS:
            seen |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in seen:
            continue
        if isinstance(node, ast.JoinedStr):
            seen |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r" .* ", node.value):
            yield node.value


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_the_options_that_its_messages_name(name):
    known, places = COMMANDS[name]
    found = [(text, OPTION.findall(OTHERS.sub(" ", text))) for place in places for text in messages(place)]
    assert sum(bool(named) for _, named in found) > 3  # there is something to look at
    assert [(text, named) for text, named in found if set(named) - known] == []


def test_the_walk_sees_an_option_that_a_command_lacks():
    sentence = "a.npy: wrong. Give --nothing, or fers data patches --size 3; or --data_path."
    assert OPTION.findall(OTHERS.sub(" ", sentence)) == ["--nothing", "--data_path"]


def test_prepare_and_patches_take_the_options_that_their_messages_name(capsys):
    for script in (lambda: prepare.main(["prepare", "--help"]), lambda: patches.main(["--help"])):
        with pytest.raises(SystemExit):
            script()
    known = set(OPTION.findall(capsys.readouterr().out))
    for place in ("fers.datasets.had100.prepare", "fers.datasets.patches"):
        texts = [
            text for text in messages(place) if text not in set(messages("fers.datasets.patches:BackgroundPatches"))
        ]
        assert [text for text in texts if set(OPTION.findall(OTHERS.sub(" ", text))) - known - {"--nodata"}] == []


def reproduced(folder, *arguments: str) -> int:
    fixed = ("--out", str(folder / "out"), "--bands", "10", "--device", "cpu", "--rows", "RX")
    return reproduce.main(["table3", *fixed, *arguments])


def test_the_remedies_that_reproduce_names_are_its_own(dataset, tmp_path, capsys):
    """Each message's remedy is given, word for word, and helps."""
    assert reproduced(tmp_path, "--data", str(tmp_path / "nowhere")) == 2
    assert "Give the dataset's folder with --data_path" in capsys.readouterr().err
    path = dataset / "test" / "aviris_ng" / "b.npy"
    cube = np.load(path)
    cube[3, 4] = -9999
    np.save(path, cube)
    assert reproduced(tmp_path, "--data_path", str(dataset)) == 2
    error = capsys.readouterr().err
    assert "b.npy: 1 of 480 pixels" in error and "--nodata mask leaves them out, and --nodata keep" in error
    for choice in ("mask", "keep"):
        assert reproduced(tmp_path / choice, "--data_path", str(dataset), "--nodata", choice) == 0
        assert f"pixels without data: {choice}" in capsys.readouterr().out
    assert run_had100(dataset, tmp_path / "test", "--features", "original", "--no_maps", "--nodata", "mask") == 0


def test_the_command_that_fetches_weights_is_one_that_there_is(dataset, tmp_path, capsys):
    write_benchmark(tmp_path / "abu", n_train=0, n_test=1, size=32, sensor="aviris")
    released = ("--weights", "released", "--released", str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    said = []
    for data in (
        ("--data", str(dataset), "--bands", "50"),
        ("--data", str(dataset), "--bands", "10"),
        ("--abu", str(tmp_path / "abu")),
    ):
        name = "table2" if "--abu" in data else "table1"
        assert reproduce.main([name, *data, *released, "--rows", "RX" if name == "table2" else "FERD"]) == 2
        said.append(re.search(r"not there\. .*", capsys.readouterr().err)[0])
    fetched = [re.search(r"fers weights download --bands (\w+)", text) for text in said]
    assert [found and found[1] for found in fetched] == ["50", None, "abu"] and {"50", "abu"} < set(RELEASES)
    assert "released no weights for 10 bands" in said[1] and all("--weights own" in text for text in said)
