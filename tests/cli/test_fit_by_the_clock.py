"""fit --budget: what it says, the steps that repeat it, too little time, and the threads of a run that goes on."""

import re
from functools import partial

import pytest
import torch
from commands import refused

from scorefield.runs import folder as runs
from scorefield.runs import resuming
from scorefield.training.budget import Budget
from scorefield.training.optimizers import Adam

DATA = ("mixture-1d", "--rows", 9)
"""So few rows have one network and no choice of a base."""


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock on which each step takes a second, and nothing else takes any."""
    steps, step = [0.0], Adam.step

    def take(self, *arguments):
        steps[0] += 1
        return step(self, *arguments)

    monkeypatch.setattr(Adam, "step", take)
    monkeypatch.setattr(resuming, "perf_counter", lambda: steps[0])
    monkeypatch.setattr(resuming, "Budget", partial(Budget, clock=lambda: steps[0]))


def test_it_says_how_many_steps_repeat_a_budget_and_they_do(tmp_path, run_main):
    code, _, err = run_main("fit", *DATA, "--out", tmp_path / "a", "--budget", "1m")
    assert code == 0
    assert "training  1m by the clock, steps of 256 rows" in err
    assert re.search(r"step +10  loss", err)
    assert re.search(r"step +60 of 60  loss", err)
    assert re.search(r"^steps     60 .* repeat it exactly with --steps 60 --threads 1$", err, re.MULTILINE)
    assert run_main("fit", *DATA, "--out", tmp_path / "b", "--steps", 60, "--quiet") == (0, "", "")
    files = [[p.read_bytes() for p in sorted((tmp_path / run).glob("checkpoints/*/*.safetensors"))] for run in "ab"]
    assert files[0] == files[1]


def test_too_short_a_budget_says_the_seconds_and_leaves_nothing(tmp_path, run_main):
    result = run_main("fit", *DATA, "--out", tmp_path / "run", "--budget", "20s", "--quiet")
    refused(result, "a budget of 20 s is too short: 50 steps take about 50 s here; give at least 75 s")
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_is_not_removed_for_want_of_time(tmp_path, run_main, monkeypatch):
    """Killed at its fifth step; then all is slower."""
    monkeypatch.setattr(resuming, "append", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_main("fit", *DATA, "--out", tmp_path / "run", "--budget", "1m", "--quiet")
    monkeypatch.undo()
    monkeypatch.setattr(resuming, "Budget", lambda seconds: Budget(seconds, clock=iter(range(0, 10**6, 100)).__next__))
    refused(run_main("fit", *DATA, "--out", tmp_path / "run", "--budget", "1m", "--quiet"), "give at least")
    assert runs.read(tmp_path / "run").config.steps == 0


def test_the_clock_decides_on_threads_and_a_number_of_steps_does_not(tmp_path, run_main, monkeypatch):
    """With --steps the same command gives the same bytes however busy the machine is."""
    used = []
    monkeypatch.setattr("scorefield.cli.opening.start", lambda options, threads: used.append(threads))
    monkeypatch.setattr("scorefield.cli.fit.fastest", lambda most: 10 + most)
    assert run_main("fit", *DATA, "--out", tmp_path / "a", "--budget", "1m", "--quiet")[0] == 0
    assert run_main("fit", *DATA, "--out", tmp_path / "b", "--steps", 2, "--quiet")[0] == 0
    assert run_main("fit", *DATA, "--out", tmp_path / "c", "--budget", "1m", "--threads", 1, "--quiet")[0] == 0
    assert used == [11, 1, 1]


@pytest.mark.parametrize(("options", "used"), [((), 2), (("--threads", 1), 1)])
def test_a_run_goes_on_with_the_threads_that_it_began_with(tmp_path, run_main, monkeypatch, options, used):
    """Unless told: other threads may give other bits."""
    found = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr("scorefield.cli.opening.threadpool_limits", lambda limits: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # what config.toml keeps
    monkeypatch.setattr("scorefield.cli.fit.cores", lambda: 4)
    assert run_main("fit", *DATA, "--out", tmp_path / "run", "--steps", 2, "--quiet")[0] == 0
    assert runs.read(tmp_path / "run").threads == 2
    assert run_main("fit", *DATA, "--out", tmp_path / "run", "--steps", 2, "--quiet", *options)[0] == 0
    assert found[-1] == used
    monkeypatch.undo()
