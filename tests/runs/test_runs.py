"""The run folder: exact resume after SIGKILL, truthful loading, nothing half-made."""

import json
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cases import table_learner

import scorefield
from scorefield.kinds import saved
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import folder as runs
from scorefield.runs import loading, resuming, signals
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.config import Config


def content(out: Path) -> dict[str, bytes]:
    """The bytes of a run's last checkpoint and logs: weights, average, optimiser, generators, metrics, config, test."""
    last = max((out / "checkpoints").iterdir(), key=lambda p: int(p.name))
    files = [*last.iterdir(), out / "metrics.jsonl", out / "config.toml", out / "test.parquet"]
    return {path.name: path.read_bytes() for path in files}


def test_a_signal_is_held_once_and_a_second_one_acts():
    before = signal.signal(signal.SIGTERM, signals.at_once)
    try:
        with signals.held() as asked:
            signal.raise_signal(signal.SIGTERM)
            assert asked == [signal.SIGTERM]
            with pytest.raises(signals.Stopped):
                signal.raise_signal(signal.SIGTERM)
        with signals.held():
            pass
        assert signal.getsignal(signal.SIGTERM) is signals.at_once
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
def test_a_learner_stopped_and_restored_anywhere_is_the_same_to_the_bit(members):
    """In one process: model, average, moments, generators and the running loss, at every step of the first twelve."""
    config = Config(steps=60, batch_size=32, width=16, features=8, members=members)
    data = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    whole = table_learner(config, data[:90], data[90:])
    reports = [report for report in whole.run() if report is not None]
    for stop in range(1, 13):
        first = table_learner(config, data[:90], data[90:])
        seen = []
        for report in first.run():
            seen += [report] if report is not None else []
            if first.trainer.step == stop:
                break
        second = table_learner(config, data[:90], data[90:])
        second.load_state(first.state())
        seen += [report for report in second.run() if report is not None]
        assert seen == reports
        for name, value in whole.state().items():
            assert torch.equal(second.state()[name], value), name


def make_run(folder: Path, steps: int = 4) -> runs.Run:
    frame = pd.DataFrame(np.random.Generator(np.random.PCG64(0)).normal(size=(50, 2)), columns=["a", "b"])
    transform = TableTransform.fit(frame)
    config = Config(steps=steps, width=16, features=8, batch_size=16)
    run = runs.create(folder, {"data": "x"}, {"digest": "d"}, config, transform.content(), frame.iloc[:5])
    z = transform.forward(frame)
    for _ in resuming.train(run, table_learner(config, z[5:], z[:5]), lambda step, notes: None):
        pass
    return run


def test_a_run_reads_back_as_it_was_made(tmp_path):
    made = make_run(tmp_path / "run", steps=24)
    assert runs.read(tmp_path / "run") == made
    assert loading.load(made, 2).notes == []
    transform = TableTransform.saved(made.units)
    assert transform.content() == made.units
    assert transform.names == ("a", "b")
    assert len(pd.read_parquet(tmp_path / "run" / "test.parquet")) == 5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 24]


def test_a_finished_run_is_left_alone(tmp_path):
    run = make_run(tmp_path / "run")
    before = content(tmp_path / "run")
    z = torch.zeros(3, 2, dtype=torch.float64)
    assert list(resuming.train(run, table_learner(run.config, z, z), lambda step, notes: None)) == []
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize("edit", ["digit", "text", "empty", "binary", "unknown", "missing"])
def test_a_changed_config_is_never_a_wrong_model(tmp_path, edit):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    text = path.read_text()
    changed = {
        "digit": text.replace("width = 16", "width = 17"),
        "text": text.replace("[settings]", "[settings"),
        "empty": "",
        "binary": "\x00\x01",
        "unknown": text.replace("[settings]", "[settings]\nmagic = 1"),
        "missing": text.replace("depth = 3\n", ""),
    }[edit]
    assert changed != text
    path.write_text(changed)
    with pytest.raises(CheckpointError, match=r"config\.toml"):
        scorefield.load(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ['",f8"', '"f8,f8"', '"(2,3)f8"', '"O"', '"<U9"', '"<M8[s]"', '"complex128"', '"os.system"', '""'],
)
def test_a_type_that_is_no_number_is_refused_before_numpy_parses_it(tmp_path, name):
    """NumPy reads repeats from a text by Python's own parser, which has errors of its own: ",f8" is a SyntaxError."""
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    text = path.read_text()
    assert 'dtype = "<f8"' in text
    path.write_text(text.replace('dtype = "<f8"', f"dtype = {name}"))
    with pytest.raises(CheckpointError, match="expected the type of a number"):
        scorefield.load(tmp_path / "run")


@pytest.mark.parametrize("kind", ["?", ">i2", "<u8", "f2", ">f8", "int8"])
def test_all_types_of_columns_are_known(kind):
    frame = pd.DataFrame({"a": np.array([0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1], kind)})
    column = TableTransform.fit(frame).columns[0]
    assert {column.dtype, np.dtype(kind).name} <= saved.TYPES


def test_a_changed_centre_is_noticed_although_it_is_well_formed(tmp_path):
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "config.toml"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("centre"))
    lines[at] = "centre = 1.25"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CheckpointError, match=r"another config\.toml"):
        scorefield.load(tmp_path / "run")


def test_a_run_without_a_checkpoint_says_so(tmp_path):
    run = make_run(tmp_path / "run")
    for folder in (run.folder / "checkpoints").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with pytest.raises(ValueError, match="no checkpoint yet; run the same fit command again"):
        scorefield.load(tmp_path / "run")


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is not a run: it has no config\.toml; make one with: scorefield fit"):
        scorefield.load(tmp_path)


def test_a_folder_with_other_things_in_it_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"it holds thesis\.txt"):
        runs.prepare_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_made_is_an_error_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be used as a run folder: (File exists|Not a directory)"):
        runs.prepare_folder(tmp_path / "file")


def test_a_stale_temporary_folder_of_a_killed_save_is_removed(tmp_path):
    run = make_run(tmp_path / "run", steps=3)
    stale = run.folder / "checkpoints" / ".scorefield-0123456789abcdef-0.tmp"
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"half")
    fitted = loading.load(run, 2)
    resuming.save_final(run, fitted.model, fitted.score_ratio)
    assert not list((run.folder / "checkpoints").glob(".*"))


def test_metrics_have_no_clock(tmp_path):
    run = make_run(tmp_path / "run")
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == {"step", "train", "validation", "kept", "skipped"}
    assert (run.folder / "timing.jsonl").stat().st_size > 0
