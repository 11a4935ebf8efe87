"""Checkpoints: what is in the file, and what is said when it does not fit."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fers.networks import (
    BackboneError,
    CheckpointError,
    CheckpointInfo,
    SpaFEN,
    SpeFEN,
    load_checkpoint,
    save_checkpoint,
)
from fers.networks.backbones import backbone_state, state_hash
from fers.networks.checkpoint import (
    install_checkpoint,
    is_shipped,
    save_backbones,
    shipped,
)
from fers.networks.import_released import import_released
from fers.util.files import sha256_of
from fers.util.paths import checkpoint_folder
from fers.weights import import_folder as main

BANDS = 12


def info_for(network, branch) -> CheckpointInfo:
    sha256 = state_hash(network.backbone_layers().state_dict())
    return CheckpointInfo(
        branch, BANDS, "aviris", "paper", "random:3", sha256, seed=5, epoch=60, metrics={"loss": 0.25}
    )


@pytest.fixture(scope="module", params=["spe_fen", "spa_fen"])
def network(request):
    return {"spe_fen": SpeFEN, "spa_fen": SpaFEN}[request.param](BANDS, "random:3", seed=5).eval()


@pytest.fixture
def saved(network, tmp_path):
    branch = "spe_fen" if isinstance(network, SpeFEN) else "spa_fen"
    return save_checkpoint(network, tmp_path / f"{branch}.safetensors", info_for(network, branch)), network


def test_a_checkpoint_gives_back_network_and_metadata(saved):
    path, network = saved
    loaded, info = load_checkpoint(path, bands=BANDS)
    assert info == info_for(network, path.stem)
    h = torch.rand(1, BANDS, 12, 12)
    with torch.no_grad():
        assert torch.equal(loaded(h), network(h))
    assert not loaded.training


def test_it_holds_trained_tensors_only(saved):
    path, network = saved
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
    assert keys == {name for name, p in network.named_parameters() if p.requires_grad}
    assert path.stat().st_size < 1_000_000


def test_saving_leaves_no_temporary_file(saved):
    assert [p.name for p in saved[0].parent.iterdir()] == [saved[0].name]


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    path, network = saved
    before = path.read_bytes()

    def full_disk(tensors, name, metadata):
        name.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fers.networks.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(network, path, info_for(network, path.stem))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_other_bands_are_refused(saved):
    with pytest.raises(CheckpointError, match=r"trained for 12 bands, asked for 50. Give --input_channel 12"):
        load_checkpoint(saved[0], bands=50)


def rewrite(path, tensors=None, **changes) -> None:
    """Save a checkpoint again with some of its metadata or its tensors changed."""
    with safe_open(path, "pt") as file:
        info = CheckpointInfo.from_metadata(file.metadata(), path)
    save_file(tensors or load_file(path), path, metadata=dataclasses.replace(info, **changes).to_metadata())


def test_other_frozen_layers_are_refused(saved):
    path, _ = saved
    with pytest.raises(CheckpointError, match=r"was trained on other frozen layers .*'random:4'"):
        load_checkpoint(path, backbone="random:4")
    rewrite(path, backbone_sha256="0" * 64)
    with pytest.raises(CheckpointError, match="Its features would be wrong"):
        load_checkpoint(path)


def test_frozen_layers_beside_it_are_found_first(saved):
    path, network = saved
    rewrite(path, backbone="file:theirs.pth")
    with pytest.raises(BackboneError, match=r"frozen layers from a file, theirs\.pth, .*--backbone PATH"):
        load_checkpoint(path)
    beside = path.with_name("backbone.safetensors")
    save_backbones(beside, {network.ARCHITECTURE: network.backbone_layers().state_dict()})
    h = torch.rand(1, BANDS, 12, 12)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path)[0](h), network(h))
    beside.unlink()
    # a file with only the other network's layers is passed over
    save_backbones(beside, {"another": network.backbone_layers().state_dict()})
    rewrite(path, backbone="random:3")
    load_checkpoint(path)


def test_wrong_key_set_and_shapes_are_named(saved):
    path, _ = saved
    tensors = load_file(path)
    key = sorted(tensors)[0]
    rewrite(path, {k: v for k, v in tensors.items() if k != key})
    with pytest.raises(CheckpointError, match=f"lacks {key}"):
        load_checkpoint(path)
    rewrite(path, {**tensors, "odd": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not have: odd"):
        load_checkpoint(path)
    rewrite(path, {**tensors, key: torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=rf"{key} is \(2, 2\)"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w.long(), "is of type int64, not floating point"),
        (lambda w: w.to(torch.complex64), "is of type complex64"),
        (lambda w: w * float("nan"), "holds values that are NaN or infinite"),
        (lambda w: w + 1e30, "holds values up to 1e[+]30, which no trained network has"),
    ],
    ids=["integer", "complex", "NaN", "huge"],
)
def test_tensors_that_cannot_be_weights_are_refused(saved, tmp_path, change, message):
    path, network = saved
    tensors = load_file(path)
    key = sorted(tensors)[0]
    rewrite(path, {**tensors, key: change(tensors[key])})
    with pytest.raises(CheckpointError, match=rf"{path.name}: {key} {message}"):
        load_checkpoint(path)
    state = network.backbone_layers().state_dict()
    key = sorted(state)[0]
    save_file({**state, key: change(state[key])}, tmp_path / "layers.safetensors")
    with pytest.raises(BackboneError, match=rf"layers\.safetensors: {key} {message}"):
        backbone_state(network.ARCHITECTURE, network.FROZEN, str(tmp_path / "layers.safetensors"))


WRONG = [
    ("branch", "../another"),
    ("bands", True),
    ("bands", 10**9),
    ("bands", "12"),
    ("sensor", None),
    ("backbone", "/etc/passwd"),
    ("backbone", "file:../theirs.pth"),
    ("backbone", "random:²"),
    ("backbone_sha256", 5),
    ("seed", -1),
    ("epoch", 1.5),
    ("selection", ["last"]),
    ("metrics", {"loss": "low"}),
    ("origin", {}),
]


def test_metadata_of_wrong_type_or_range_is_refused(saved):
    original = saved[0].read_bytes()
    for field, value in WRONG:
        saved[0].write_bytes(original)
        rewrite(saved[0], **{field: value})
        with pytest.raises(CheckpointError, match=rf"its metadata is damaged: {field} is"):
            load_checkpoint(saved[0])


def test_a_file_that_the_metadata_names_is_taken_from_beside_the_checkpoint(saved):
    path, network = saved
    rewrite(path, backbone="file:theirs.pth")
    torch.save(network.backbone_layers().state_dict(), path.with_name("theirs.pth"))
    h = torch.rand(1, BANDS, 12, 12)
    with torch.no_grad():
        assert torch.equal(load_checkpoint(path)[0](h), network(h))


def test_a_shipped_file_is_checked_by_its_sum_until_it_is_replaced_by_ones_own(saved, tmp_path):
    path, network = saved
    folder = tmp_path / "checkpoints" / "aviris_12"
    copy = install_checkpoint(path, folder, network.ARCHITECTURE, None)
    sums = folder.parent / "SHA256SUMS"
    sums.write_text(f"{sha256_of(copy)}  aviris_12/{copy.name}\n{'0' * 64}  other/spe_fen.safetensors\n")
    load_checkpoint(copy)
    assert is_shipped(copy)
    rewrite(copy, seed=6)
    with pytest.raises(CheckpointError, match=r"is not the shipped file: .*SHA256SUMS has another sha256"):
        load_checkpoint(copy)
    install_checkpoint(path, folder, network.ARCHITECTURE, None)
    assert load_checkpoint(copy)[1].seed == 5 and not is_shipped(copy)
    assert sums.read_text() == f"{'0' * 64}  other/spe_fen.safetensors\n"


def test_shipped_checkpoints_are_found_by_name():
    names = {"aviris_200": ["spe_fen"], "aviris_200_imagenet": ["spe_fen"]}
    for name, branches in names.items():
        files = sorted(file for file in shipped(name).glob("*.safetensors") if is_shipped(file))
        assert [file.stem for file in files] == branches
        sums = dict(
            reversed(line.split("  ")) for line in (shipped(name).parent / "SHA256SUMS").read_text().splitlines()
        )
        assert all(sha256_of(file) == sums[f"{name}/{file.name}"] for file in files)
    with pytest.raises(CheckpointError, match="'none': no such checkpoint is shipped; there are aviris_200, "):
        shipped("none")
    assert checkpoint_folder("aviris", 200) == shipped("aviris_200")


def test_missing_damaged_and_foreign_files_are_named(tmp_path, saved):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")
    path = saved[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this project"):
        load_checkpoint(path)


def released_folder(folder, spe_fen, spa_fen=None, spa_names="torchvision"):
    """The authors' file layout, with the weights of our own networks in it."""
    folder.mkdir()
    s = spe_fen.state_dict()
    torch.save({"state_dict": {"convh.weight": s["cwl.weight"]}}, folder / "convh.pt")
    frozen = {k: v for k, v in s.items() if k.startswith("layer1.")}
    torch.save({"state_dict": frozen}, folder / "enc.pt")
    names = {"conv1": "fpl.0", "conv2": "fpl.2", "conv3": "zcl"}
    pc = {f"{theirs}.{k}": s[f"{ours}.{k}"] for theirs, ours in names.items() for k in ("weight", "bias")}
    torch.save({"state_dict": pc}, folder / "pc.pt")
    if spa_fen is not None:
        children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"]
        theirs = {}
        for key, value in spa_fen.state_dict().items():
            head, _, tail = key.partition(".")
            if head == "backbone" and spa_names == "numbers":
                child, _, tail = tail.partition(".")
                key = f"get_features.{children.index(child)}.{tail}"
            elif head == "backbone":
                key = f"get_features.{tail}"
            else:
                key = key.replace("compression.0", "initial_conv.conv").replace("compression.2", "initial_conv.hidden")
                key = f"spp.{key}" if head == "se" else key
            theirs[key] = value
        torch.save({"state_dict": theirs}, folder / "spa_fen.pt")


@pytest.mark.parametrize("spa_names", ["torchvision", "numbers"])
def test_import_of_a_released_folder(tmp_path, spa_names, capsys):
    spe_fen, spa_fen = SpeFEN(BANDS, "random:1").eval(), SpaFEN(BANDS, "random:2").eval()
    spa_fen.backbone.bn1.running_mean += 0.5  # their running statistics have adapted
    released_folder(tmp_path / "theirs", spe_fen, spa_fen, spa_names)
    out = tmp_path / "aviris_ng_12" / "spe_fen.safetensors"
    assert main([str(tmp_path / "theirs"), str(out)]) == 0
    assert sorted(p.name for p in out.parent.iterdir()) == [
        "backbone.safetensors",
        "spa_fen.safetensors",
        "spe_fen.safetensors",
    ]
    assert capsys.readouterr().out.count("wrote") == 3
    h = torch.rand(1, BANDS, 20, 20)
    for network, branch in ((spe_fen, "spe_fen"), (spa_fen, "spa_fen")):
        loaded, info = load_checkpoint(out.with_name(f"{branch}.safetensors"), bands=BANDS)
        assert (info.sensor, info.selection) == ("aviris_ng", "test-auc")
        with torch.no_grad():
            assert torch.equal(loaded(h), network(h))


def test_import_says_what_is_wrong(tmp_path, capsys):
    folder = tmp_path / "theirs"
    spe_fen = SpeFEN(BANDS, "random:1")
    released_folder(folder, spe_fen)
    assert main([str(folder), str(tmp_path / "out.pt")]) == 2
    assert "safetensors" in capsys.readouterr().err
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, folder / "pc.pt")
    with pytest.raises(CheckpointError, match=r"theirs: lacks conv1\.bias"):
        import_released(folder, tmp_path / "o.safetensors")
    weights = {"conv1": spe_fen.fpl[0], "conv2": spe_fen.fpl[2], "conv3": spe_fen.zcl}
    wrong = {
        f"{name}.{k}": torch.full_like(v, float("nan"))
        for name, w in weights.items()
        for k, v in w.state_dict().items()
    }
    torch.save({"state_dict": wrong}, folder / "pc.pt")
    with pytest.raises(CheckpointError, match=r"theirs: fpl\.0\.weight holds values that are NaN"):
        import_released(folder, tmp_path / "o.safetensors")
    (folder / "enc.pt").unlink()
    assert main([str(folder), str(tmp_path / "o.safetensors")]) == 2
    assert "theirs: lacks enc.pt" in capsys.readouterr().err
    assert not (tmp_path / "o.safetensors").exists()
