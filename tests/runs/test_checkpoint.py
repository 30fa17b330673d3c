"""Checkpoints: all or nothing, every changed bit noticed, the newest valid one used."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scorefield.data import atomic
from scorefield.runs import checkpoint
from scorefield.runs.checkpoint import CheckpointError

DIGEST = "0" * 64


def tensors(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(5, 3, generator=draw),
        "empty": torch.zeros(0, 2),
        "scalar": torch.tensor(seed),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "double": torch.randn(2, generator=draw, dtype=torch.float64),
    }


def save(run: Path, step: int) -> None:
    checkpoint.save(run, step, tensors(step), tensors(-step), DIGEST)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for step in (10, 20):
        save(tmp_path, step)
    return tmp_path


def test_what_comes_back_is_what_was_saved_to_the_bit(run):
    found = checkpoint.latest(run, DIGEST)
    assert found is not None
    assert found.step == 20
    assert found.notes == []
    for name, expected in tensors(20).items():
        assert torch.equal(found.model[name], expected)
        assert found.model[name].dtype == expected.dtype
    assert torch.equal(found.state["double"], tensors(-20)["double"])


def test_the_last_two_are_kept_and_leftovers_removed(run):
    (run / "checkpoints" / ".scorefield-0123456789abcdef-0.tmp").mkdir()
    save(run, 30)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["20", "30"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, 7)
    for file in (tmp_path / "a" / "checkpoints" / "7").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "checkpoints" / "7" / file.name).read_bytes()


def test_none_was_ever_written(tmp_path):
    assert checkpoint.latest(tmp_path, DIGEST) is None


def test_a_damaged_one_is_passed_over_and_said_so(run):
    path = run / "checkpoints" / "20" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    found = checkpoint.latest(run, DIGEST)
    assert found is not None
    assert found.step == 10
    assert "20/model.safetensors is damaged" in found.notes[0]
    assert "the one before it is used" in found.notes[0]


def test_all_damaged_is_an_error_that_says_what_to_do(run):
    for step in (10, 20):
        (run / "checkpoints" / str(step) / "state.safetensors").write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint of .* can be used: .*state\.safetensors is damaged.*--force"
    ):
        checkpoint.latest(run, DIGEST)


def test_another_config_is_refused(run):
    with pytest.raises(CheckpointError, match=r"another config\.toml"):
        checkpoint.latest(run, "1" * 64)


def test_a_newer_format_asks_for_an_update(run, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", 3)
    save(run, 40)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 3; this program reads format 2: update"):
        checkpoint.read(run / "checkpoints" / "40", DIGEST)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"{}", b"null", b'{"digest": 1}', b"\xff\xfe", b"[" * 100_000, b'{"format": 1, "digest": "x"}'],
)
def test_a_manifest_that_is_no_manifest(run, manifest):
    (run / "checkpoints" / "20" / "manifest.json").write_bytes(manifest)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        checkpoint.read(run / "checkpoints" / "20", DIGEST)


def test_a_missing_file_is_named(run):
    (run / "checkpoints" / "20" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read: No such file"):
        checkpoint.read(run / "checkpoints" / "20", DIGEST)


@pytest.mark.parametrize("point", ["write_bytes", "fsync", "read", "replace"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_failure_at_any_point_leaves_the_last_checkpoint(run, point, call, monkeypatch):
    """An OSError in the n-th write, sync, read-back or rename: step 20 still loads, and the next save cleans up."""
    calls = 0
    target = {"fsync": os, "read": checkpoint}.get(point, Path)
    original = getattr(target, point)

    def failing(*arguments):
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(target, point, failing)
    with contextlib.suppress(OSError):
        save(run, 30)
    monkeypatch.undo()
    found = checkpoint.latest(run, DIGEST)
    assert found is not None
    assert found.step in (20, 30)
    assert torch.equal(found.model["weight"], tensors(found.step)["weight"])
    save(run, 40)
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[-1] == "40"
    assert not list((run / "checkpoints").glob(".*"))


def test_numbers_that_are_not_finite_are_neither_written_nor_read(run, monkeypatch):
    bad = tensors(1) | {"weight": torch.full((5, 3), torch.nan)}
    with pytest.raises(CheckpointError, match=r"model\.safetensors holds numbers that are not finite, in weight"):
        checkpoint.save(run, 30, bad, tensors(1), DIGEST)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["10", "20"]
    monkeypatch.setattr(Tensor, "isfinite", lambda value: torch.ones_like(value, dtype=torch.bool))
    checkpoint.save(run, 30, tensors(1), bad, DIGEST)
    monkeypatch.undo()
    found = checkpoint.latest(run, DIGEST)
    assert found is not None
    assert found.step == 20
    assert "in weight; the one before it is used" in found.notes[0]


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic.write(path, b"old")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        atomic.write(path, b"new content")
    assert path.read_bytes() == b"old"


def test_the_manifest_holds_the_sums_of_its_siblings(run):
    folder = run / "checkpoints" / "20"
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, digest in manifest["files"].items():
        assert checkpoint.sha256((folder / name).read_bytes()) == digest
    assert set(manifest["files"]) == {path.name for path in folder.iterdir()} - {"manifest.json"}


def test_a_sealed_file_is_read_only_as_it_was_written(tmp_path):
    content = {"b": 0.1, "a": [1, None, "\u00e9"], "c": {"d": 1e300}}
    path = tmp_path / "sealed.json"
    path.write_bytes(checkpoint.seal(content))
    assert checkpoint.unseal(path) == content
    path.write_bytes(checkpoint.seal(content) + b"\n")
    with pytest.raises(CheckpointError, match="its own SHA-256 does not match"):
        checkpoint.unseal(path)


def test_links_and_other_steps_are_refused(run):
    place = run / "checkpoints"
    (place / "20").rename(place / "30")
    shutil.rmtree(place / "10")
    with pytest.raises(CheckpointError, match="30 is damaged: it holds step 20"):
        checkpoint.latest(run, DIGEST)
    (place / "30").rename(run / "moved")
    (place / "20").symlink_to(run / "moved")
    with pytest.raises(CheckpointError, match="20 is a link"):
        checkpoint.latest(run, DIGEST)
