"""Where frozen layers come from: torchvision's cache, a download, a file, a seed."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from fers.networks import BackboneError
from fers.networks.backbones import backbone_state, state_hash
from fers.networks.resnet import RESNETS

ARCHITECTURE, LAYERS = "wide_resnet101_2", ("layer1",)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return backbone_state(ARCHITECTURE, LAYERS, "random:7")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def server(tmp_path):
    """A web server of one folder on this machine, and its address."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def published(server, state, tmp_path, monkeypatch):
    """torchvision's weights as if they were published on the local server: their file, and an empty cache."""
    folder, address = server
    torch.save(state, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    file = (folder / "weights.pth").rename(folder / f"{ARCHITECTURE}-{digest}.pth")
    row = replace(RESNETS[ARCHITECTURE], url=f"{address}/{file.name}")
    monkeypatch.setitem(RESNETS, ARCHITECTURE, row)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return file


def test_imagenet_is_downloaded_into_torchvisions_cache_once(published, state, tmp_path):
    assert same(backbone_state(ARCHITECTURE, LAYERS, "imagenet"), state)
    assert (tmp_path / "home" / "hub" / "checkpoints" / published.name).is_file()
    published.unlink()  # a second time needs no server
    assert same(backbone_state(ARCHITECTURE, LAYERS, "imagenet"), state)


def test_prepared_cache_is_enough(published, state, tmp_path):
    cache = tmp_path / "home" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    published.rename(cache / published.name)
    assert same(backbone_state(ARCHITECTURE, LAYERS, "imagenet"), state)


def test_download_that_was_changed_on_the_way_is_refused(published):
    content = bytearray(published.read_bytes())
    content[len(content) // 2] ^= 1
    published.write_bytes(content)
    with pytest.raises(BackboneError, match=r"could not be downloaded.*hash"):
        backbone_state(ARCHITECTURE, LAYERS, "imagenet")


def test_offline_it_says_what_to_fetch_and_where_to_put_it(published, tmp_path):
    published.unlink()
    with pytest.raises(BackboneError) as error:
        backbone_state(ARCHITECTURE, LAYERS, "imagenet")
    for needed in (
        RESNETS[ARCHITECTURE].url,
        "243 MB",
        str(tmp_path / "home" / "hub"),
        "--backbone PATH",
        "--backbone random",
    ):
        assert needed in str(error.value)


def test_offline_it_names_imported_layers_of_the_same_network(published, state, tmp_path, monkeypatch):
    published.unlink()
    monkeypatch.setattr("fers.networks.backbones.home", lambda: tmp_path)
    for folder, architecture in (("aviris_200", ARCHITECTURE), ("other_50", "resnet34")):
        (tmp_path / "checkpoints" / folder).mkdir(parents=True)
        tensors = {f"{architecture}.{key}": value for key, value in state.items()}
        save_file(tensors, tmp_path / "checkpoints" / folder / "backbone.safetensors")
    with pytest.raises(BackboneError) as error:
        backbone_state(ARCHITECTURE, LAYERS, "imagenet")
    imported = tmp_path / "checkpoints" / "aviris_200" / "backbone.safetensors"
    assert f"--backbone {imported}" in str(error.value) and "other_50" not in str(error.value)
    assert same(backbone_state(ARCHITECTURE, LAYERS, str(imported)), state)


def test_damaged_cache_is_named(published, tmp_path):
    cache = tmp_path / "home" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / published.name).write_bytes(published.read_bytes()[:1000])
    with pytest.raises(BackboneError, match=rf"{published.name}: cannot be read .* delete it"):
        backbone_state(ARCHITECTURE, LAYERS, "imagenet")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_file_that_covers_the_layers_is_enough(tmp_path, state, suffix, wrap):
    path = tmp_path / f"weights{suffix}"
    extra = {**state, "fc.weight": torch.zeros(3, 3), "layer4.0.conv1.weight": torch.zeros(1)}
    if suffix == ".safetensors":
        save_file({f"{ARCHITECTURE}.{k}" if wrap else k: v for k, v in extra.items()}, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in extra.items()}} if wrap else extra, path)
    assert same(backbone_state(ARCHITECTURE, LAYERS, str(path)), state)


def test_a_folder_with_a_file_for_each_network(tmp_path, state):
    torch.save(state, tmp_path / f"{ARCHITECTURE}-abcd.pth")
    assert same(backbone_state(ARCHITECTURE, LAYERS, str(tmp_path)), state)
    with pytest.raises(BackboneError, match="resnet34"):
        backbone_state("resnet34", ("conv1",), str(tmp_path))


def test_files_without_batch_counters_are_as_good(tmp_path, state):
    path = tmp_path / "old.safetensors"
    save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    assert state_hash(backbone_state(ARCHITECTURE, LAYERS, str(path))) == state_hash(state)


def test_what_does_not_fit_is_named(tmp_path, state):
    path = tmp_path / "w.safetensors"
    with pytest.raises(BackboneError, match=r"w\.safetensors: no such file"):
        backbone_state(ARCHITECTURE, LAYERS, str(path))
    save_file({k: v for k, v in state.items() if "layer1.2" not in k}, path)
    with pytest.raises(BackboneError, match=r"tensors of wide_resnet101_2 are not in it, the first is layer1\.2\."):
        backbone_state(ARCHITECTURE, LAYERS, str(path))
    save_file({k: torch.zeros(2, 2) for k in state}, path)
    with pytest.raises(BackboneError, match="another network's weights"):
        backbone_state(ARCHITECTURE, LAYERS, str(path))
    path.write_bytes(b"\0" * 100)
    with pytest.raises(BackboneError, match=r"w\.safetensors: cannot be read"):
        backbone_state(ARCHITECTURE, LAYERS, str(path))
    with pytest.raises(BackboneError, match="random:7"):
        backbone_state(ARCHITECTURE, LAYERS, "random:x")


class Trap:
    """Unpickling this runs code."""

    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle was run')",)


def test_code_in_a_pickle_is_not_run(tmp_path):
    torch.save({"state_dict": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(BackboneError, match=r"trap\.pth: cannot be read"):
        backbone_state(ARCHITECTURE, LAYERS, str(tmp_path / "trap.pth"))


def test_random_layers_do_not_depend_on_which_others_are_drawn(state):
    more = backbone_state(ARCHITECTURE, ("layer1", "layer2"), "random:7")
    assert same({k: v for k, v in more.items() if k.startswith("layer1.")}, state)
    assert not same(backbone_state(ARCHITECTURE, LAYERS, "random"), state)
    assert same(backbone_state(ARCHITECTURE, LAYERS, "random"), backbone_state(ARCHITECTURE, LAYERS, "random:0"))
