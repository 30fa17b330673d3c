"""Runs by the clock: what the clock has said is kept, and a killed run ends with the bytes of one that was not."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import count

import pandas as pd
import pytest
import torch

from scorefield.diffusion.published import VP
from scorefield.kinds.tables.units import TableTransform
from scorefield.runs import checkpoint, loading, metrics_log, resuming
from scorefield.runs import folder as runs
from scorefield.runs.checkpoint import CheckpointError
from scorefield.training.budget import Budget, Cosine, Falling, Schedule, TooShort
from scorefield.training.config import Config
from scorefield.training.learner import Learner
from scorefield.training.optimizers import Adam
from scorefield.training.problem import Part, Prepared

ROWS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
SECONDS, LEVEL, STEPS = 100.0, 80, 100
"""A budget on the clock of these tests, and what it leads to."""


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock on which each step takes a second, and nothing else takes any; it goes on over all runs of a test."""
    steps, step = [0.0], Adam.step

    def take(self, *arguments):
        steps[0] += 1
        return step(self, *arguments)

    monkeypatch.setattr(Adam, "step", take)
    monkeypatch.setattr(resuming, "perf_counter", lambda: steps[0])
    monkeypatch.setattr(resuming, "Budget", partial(Budget, clock=lambda: steps[0]))
    return steps


@pytest.fixture
def kill(monkeypatch):
    """Let training end at the n-th step from now on, or at the first call of a function, as a kill would."""

    def prepare(place, name, number=1):
        original, calls = getattr(place, name), count(1)

        def act(*arguments, **options):
            if next(calls) == number:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(place, name, act)

    return prepare


def made(folder, steps=0, **settings):
    """An empty run of so many steps, or by the clock."""
    transform = TableTransform.fit(pd.DataFrame(ROWS.numpy(), columns=["a", "b"]))
    config = Config(steps=steps, width=8, features=4, batch_size=16, **settings)
    request = {"steps": steps} if steps else {"budget": "100s"}
    return runs.create(folder, request, {"digest": "d"}, config, transform.content())


def learner_of(run, schedule):
    model = run.config.model(torch.zeros(2), torch.eye(2))
    return Learner(run.config, Prepared(model, (Part(ROWS[:40], ROWS[40:]),), "none", "none"), schedule)


def trained(folder, schedule=None):
    """Train a run from wherever it stands; return the number of steps that it goes on from."""
    run, resumed = runs.read(folder), [0]
    learner = learner_of(run, schedule or resuming.schedule_of(run, SECONDS))
    for _ in resuming.train(run, learner, lambda step, notes: resumed.append(step)):
        pass
    return resumed[-1]


def content(folder):
    """The tensors of all checkpoints that are left, and the reports; the manifests name a config.toml of their own."""
    files = [folder / "metrics.jsonl", *sorted(folder.glob("checkpoints/*/*.safetensors"))]
    assert len(files) == 1 + 2 * checkpoint.KEEP
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def whole(tmp_path):
    """The bytes of a run by a number of steps."""
    made(tmp_path / "whole", STEPS)
    trained(tmp_path / "whole")
    return content(tmp_path / "whole")


def test_a_run_by_the_clock_is_the_run_by_its_number_of_steps(tmp_path, whole):
    """Every byte of state, model and reports; steps.json has both counts; both load with that number."""
    run = made(tmp_path / "run")
    assert (run.config.steps, run.format) == (0, runs.FORMAT)
    trained(run.folder)
    assert content(run.folder) == whole
    counts = json.loads((run.folder / "steps.json").read_text())
    assert (counts["level"], counts["steps"]) == (LEVEL, STEPS)
    assert runs.read(run.folder) == replace(run, config=replace(run.config, steps=STEPS))
    found = loading.load(runs.read(run.folder), 2)
    assert (found.config.steps, found.notes) == (STEPS, [])
    assert trained(run.folder) == STEPS
    assert content(run.folder) == whole


@pytest.mark.parametrize(
    ("step", "last", "known"), [(33, 20, 0), (LEVEL + 1, LEVEL, STEPS), (LEVEL + 7, LEVEL, STEPS), (STEPS, 80, STEPS)]
)
def test_a_run_killed_at_a_step_ends_with_the_same_bytes(tmp_path, whole, kill, step, last, known):
    """In the level part, in the first step of the fall, in the fall, in the last step."""
    run = made(tmp_path / "run")
    kill(Adam, "step", step)
    with pytest.raises(Killed):
        trained(run.folder)
    assert runs.read(run.folder).config.steps == known
    assert trained(run.folder) == last
    assert content(run.folder) == whole


@pytest.mark.slow
@pytest.mark.parametrize(("name", "last", "known"), [("settle", 60, 0), ("_save", 0, 0), ("append", 0, 0)])
def test_a_run_killed_before_it_wrote_what_it_knew_ends_with_the_same_bytes(tmp_path, whole, kill, name, last, known):
    """The clock says the same again, since it counts what was spent before."""
    run = made(tmp_path / "run")
    kill(resuming, name)
    with pytest.raises(Killed):
        trained(run.folder)
    assert runs.read(run.folder).config.steps == known
    assert trained(run.folder) == last
    assert content(run.folder) == whole


def test_the_counts_are_on_the_disk_before_the_checkpoint_of_their_step(tmp_path, whole, kill):
    """Killed between: the run goes on from the checkpoint before, by the counts and no clock."""
    run = made(tmp_path / "run")
    kill(resuming, "_save", 4)  # that of step 80; 20, 40 and 60 are there
    with pytest.raises(Killed):
        trained(run.folder)
    assert runs.read(run.folder).config.steps == STEPS
    assert trained(run.folder) == 60
    assert content(run.folder) == whole


def test_checkpoints_lie_at_every_second_report_and_each_thousandth_step(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(resuming, "_save", lambda run, learner: saved.append(learner.trainer.step))
    made(tmp_path / "run", 250)
    trained(tmp_path / "run")
    assert saved == [*range(20, 160, 20), 160, 200, 240, 250]


def test_an_unfinished_run_of_the_old_format_ends_by_the_old_law(tmp_path, kill):
    """Its rates and reports are written here again; format 7 would end with other bytes."""

    class Law(Schedule):
        def rate(self, step):
            return min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / 120)) / 2

        def decay(self, step):
            return min(0.999, step / (step + 10))

        def due(self, step):
            return step % 10 == 0 or step == 120

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "FORMAT", 6)
        for name in ("old", "law"):
            made(tmp_path / name, 120)
    kill(Adam, "step", 70)
    with pytest.raises(Killed):
        trained(tmp_path / "old")
    assert "stopped at step 60 of 120" in loading.load(runs.read(tmp_path / "old"), 2).notes[0]
    assert isinstance(resuming.schedule_of(runs.read(tmp_path / "old"), SECONDS), Cosine)
    assert trained(tmp_path / "old") == 60
    trained(tmp_path / "law", Law(120))
    assert content(tmp_path / "old") == content(tmp_path / "law")
    made(tmp_path / "new", 120)
    assert isinstance(resuming.schedule_of(runs.read(tmp_path / "new"), SECONDS), Falling)


def test_an_unfinished_run_by_the_clock_loads_with_the_steps_that_it_took(tmp_path, kill):
    run = made(tmp_path / "run")
    kill(Adam, "step", 33)
    with pytest.raises(Killed):
        trained(run.folder)
    found = loading.load(runs.read(run.folder), 2)
    assert found.config.steps == 20
    assert 0 < found.score_ratio < float(VP().ratio(torch.ones(())))
    assert found.notes == [f"{run.folder} stopped at step 20; fit again to finish it"]


def test_the_seconds_of_a_checkpoint_are_those_of_all_commands_before_it(tmp_path):
    """What came after a checkpoint from which another command went on doesn't count; nor does what is no line."""
    lines = [
        {"from": 0, "step": 20, "seconds": 5.0},
        {"from": 0, "step": 40, "seconds": 11.0},
        {"from": 0, "step": 50, "seconds": 13.0},
        {"from": 40, "step": 50, "seconds": 2.5},
        {"from": 40, "step": 80, "seconds": 9.0},
        {"from": 80, "step": 90, "seconds": -1.0},
        {"from": 80, "step": 90, "seconds": math.inf},
        {"from": math.inf, "step": 90, "seconds": 1.0},
        {"from": 80},
        [],
    ]
    path = tmp_path / "timing.jsonl"
    assert metrics_log.seconds_until(tmp_path, 80) == 0
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"from": 80, "st')
    assert [metrics_log.seconds_until(tmp_path, step) for step in (0, 20, 40, 80, 90)] == [0, 5, 11, 20, 20]
    (tmp_path / "metrics.jsonl").write_text("one\ntwo\n")
    metrics_log.cut(tmp_path, b"one\n")
    assert (tmp_path / "metrics.jsonl").read_text() == "one\n"
    assert path.read_text().endswith("[]\n")


@pytest.mark.parametrize("edit", ["digit", "half", "other", "counts"])
def test_changed_counts_are_refused(tmp_path, edit):
    run = made(tmp_path / "run")
    runs.settle(run, STEPS)
    path = run.folder / "steps.json"
    sealed = lambda **changes: checkpoint.seal({"config": run.digest, "level": 80, "steps": 100} | changes)
    assert path.read_bytes() == sealed()
    edited = {
        "digit": sealed().replace(b"80", b"81"),
        "half": sealed()[:40],
        "other": sealed(config="0" * 64),
        "counts": sealed(steps=101),
    }
    path.write_bytes(edited[edit])
    with pytest.raises(CheckpointError, match=r"steps\.json"):
        runs.read(run.folder)


def test_a_run_without_steps_and_budget_is_damaged(tmp_path):
    path = made(tmp_path / "run", 5).folder / "config.toml"
    path.write_text(path.read_text().replace("steps = 5", "steps = 0"))
    with pytest.raises(CheckpointError, match="expected a number of steps or a budget"):
        runs.read(tmp_path / "run")


def test_too_short_a_budget_keeps_what_was_there(tmp_path):
    run = made(tmp_path / "run")
    with pytest.raises(TooShort):
        for _ in resuming.train(run, learner_of(run, resuming.schedule_of(run, 20.0)), lambda step, notes: None):
            pass
    assert runs.read(run.folder) == run
