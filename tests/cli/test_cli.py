"""The command line as a user meets it: files, exit codes, one line of error, nothing half-written."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from commands import TINY, refused, scorefield

from scorefield.cli import opening
from scorefield.cli.options import COMMANDS
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.inference.samplers import SAMPLERS
from scorefield.training.objectives.table import OBJECTIVES


def test_data_lists_and_writes(tmp_path, run_main):
    code, out, _ = run_main("data")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    assert {"swissroll", "moons", "circles", "checkerboard", "8gaussians", "rings", "pinwheel", "2spirals"} <= set(
        names
    )
    assert "digits-table" in names
    for name in names:
        assert run_main("data", name, "-n", 20, "-o", tmp_path / f"{name}.csv", "--quiet") == (0, "", "")
        assert len(pd.read_csv(tmp_path / f"{name}.csv")) == 20


@pytest.mark.slow
def test_fit_says_what_it_chose_and_why(table, tmp_path, run_main):
    code, _, err = run_main("fit", table, "--out", tmp_path / "run", "--steps", 30)
    assert code == 0
    for fragment in (
        "1,000 rows of 3 columns",
        "800 to train, 100 to validate, 100 to test",
        "30 steps of 256 rows",
        "step ",
    ):
        assert fragment in err
    assert "validation" in err


@pytest.mark.slow
def test_the_same_command_again_does_nothing(table, fitted, run_main):
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*.safetensors")}
    assert run_main("fit", table, "--out", fitted, *TINY)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in fitted.rglob("*.safetensors")} == before


@pytest.mark.slow
def test_other_options_or_other_data_need_force(few_rows, tmp_path, run_main):
    out = tmp_path / "run"
    assert run_main("fit", few_rows, "--out", out, *TINY)[0] == 0
    refused(run_main("fit", few_rows, "--out", out, "--steps", 31, "--quiet"), "other options (steps)", "--force")
    few_rows.write_text(few_rows.read_text().replace("True", "False", 1))
    refused(run_main("fit", few_rows, "--out", out, *TINY), "from other data", "--force")
    assert run_main("fit", few_rows, "--out", out, *TINY, "--force")[0] == 0


@pytest.mark.slow
def test_columns_and_drop_choose_columns(few_rows, tmp_path, run_main):
    assert run_main("fit", few_rows, "--out", tmp_path / "a", *TINY, "--columns", "age,height")[0] == 0
    assert run_main("sample", tmp_path / "a", "-n", 3, "-o", tmp_path / "a.csv")[0] == 0
    assert list(pd.read_csv(tmp_path / "a.csv").columns) == ["age", "height"]
    assert run_main("fit", few_rows, "--out", tmp_path / "b", *TINY, "--drop", "smoker")[0] == 0
    refused(run_main("fit", few_rows, "--out", tmp_path / "c", *TINY, "--drop", "cigars"), "cigars", "smoker")


@pytest.mark.slow
def test_constant_columns_are_named_and_left_out_of_scores(tmp_path, run_main):
    frame = pd.DataFrame({"a": np.arange(50.0) % 7, "batch": 3})
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, _, err = run_main("fit", tmp_path / "t.csv", "--out", tmp_path / "run", "--steps", 20)
    assert code == 0
    assert "batch is constant" in err
    assert "none are kept for a test" in err
    assert run_main("score", tmp_path / "run", tmp_path / "t.csv", "-o", tmp_path / "s.csv")[0] == 0
    assert list(pd.read_csv(tmp_path / "s.csv").columns) == ["score_a"]


@pytest.mark.slow
def test_an_existing_output_needs_force(fitted, tmp_path, run_main):
    path = tmp_path / "s.csv"
    path.write_text("precious")
    refused(run_main("sample", fitted, "-n", 3, "-o", path), "one that exists", "--force")
    assert path.read_text() == "precious"
    assert run_main("sample", fitted, "-n", 3, "-o", path, "--force")[0] == 0


@pytest.mark.slow
def test_points_of_another_width_name_both(fitted, tmp_path, run_main):
    (tmp_path / "narrow.csv").write_text("height,age\n170,30\n")
    refused(run_main("score", fitted, tmp_path / "narrow.csv", "-o", tmp_path / "x.csv"), "smoker")
    np.save(tmp_path / "narrow.npy", np.zeros((2, 2)))
    refused(run_main("score", fitted, tmp_path / "narrow.npy", "-o", tmp_path / "x.csv"), "3", "2")


def test_a_failed_run_exits_1(fitted, tmp_path, run_main, monkeypatch):
    def fail(*_):
        raise RuntimeError("the loss became nan")

    monkeypatch.setattr(opening, "estimator_of", fail)
    code, _, err = run_main("evaluate", fitted)
    assert (code, err) == (1, "scorefield: the loss became nan\n")


@pytest.mark.slow
def test_help_names_every_choice_and_has_a_line_for_every_option():
    text = re.sub(
        r"[\s\u2500-\u257f]+", " ", scorefield("fit", "--help").stdout + scorefield("sample", "--help").stdout
    )
    for name in [*PROCESSES, *PREDICTIONS, *OBJECTIVES, *SAMPLERS]:
        assert re.search(rf"\b{name}\b", text), name
    for name in COMMANDS:
        assert name in scorefield("--help").stdout


def test_version():
    assert scorefield("--version").stdout == "scorefield 0.1.0\n"
    assert scorefield("sample", "--version").stdout == "scorefield 0.1.0\n"


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_makes_a_run_that_every_command_reads(objective, run_main, tmp_path):
    network = "energy" if OBJECTIVES[objective].energy else "mlp"
    options = ["--objective", objective, "--network", network, "--rows", 9, "--out", tmp_path / "run"]
    assert run_main("fit", "8gaussians", *options, "--steps", 3, "--quiet")[0] == 0
    text = (tmp_path / "run" / "config.toml").read_text()
    assert f'objective = "{objective}"' in text
    assert f'network = "{network}"' in text
    assert run_main("sample", tmp_path / "run", "-n", 5, "--out", tmp_path / "points.csv", "--quiet")[0] == 0
    for command in ("score", "logprob"):
        points = [tmp_path / "run", tmp_path / "points.csv", "--out", tmp_path / f"{command}.csv", "--quiet"]
        assert run_main(command, *points)[0] == 0
        assert np.isfinite(pd.read_csv(tmp_path / f"{command}.csv").to_numpy()).all()


@pytest.mark.slow
def test_one_level_gives_score_and_samples_and_says_why_it_has_no_likelihood(run_main, tmp_path):
    """Correlated Gaussian data: Langevin samples have its moments (4 standard errors), the score its slope.

    The noise is added to whitened rows, so its covariance is 0.09 times that of the data."""
    draw = np.random.Generator(np.random.PCG64(1))
    x = draw.multivariate_normal([3.0, -2.0], [[4.0, 1.2], [1.2, 1.0]], size=3000)
    pd.DataFrame(x, columns=["a", "b"]).to_csv(tmp_path / "x.csv", index=False)
    run = tmp_path / "run"
    assert run_main("fit", tmp_path / "x.csv", "--level", 0.3, "--steps", 5, "--out", run, "--quiet")[0] == 0
    assert "level = 0.3" in (run / "config.toml").read_text()
    assert run_main("sample", run, "-n", 1024, "--out", tmp_path / "s.csv", "--quiet")[0] == 0
    s = pd.read_csv(tmp_path / "s.csv").to_numpy()
    error = np.hypot(x.std(0) / len(x) ** 0.5, x.std(0) / len(s) ** 0.5)
    assert (np.abs(s.mean(0) - x.mean(0)) < 4 * error + 0.02).all()
    smaller = run_main("sample", run, "-n", 10, "--out", tmp_path / "t.csv", "--quiet")
    assert smaller[0] == 0
    assert (pd.read_csv(tmp_path / "t.csv").to_numpy() == s[:10]).all()
    points = [run, tmp_path / "t.csv", "--out", tmp_path / "score.csv", "--quiet"]
    assert run_main("score", *points)[0] == 0
    slope = np.linalg.inv(1.09 * np.cov(x.T))
    expected = -(s[:10] - x.mean(0)) @ slope
    assert np.abs(pd.read_csv(tmp_path / "score.csv").to_numpy() - expected).max() < 0.1
    refused(
        run_main("logprob", run, tmp_path / "t.csv", "--out", tmp_path / "l.csv"), "one noise level, 0.3", "density"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("options", "threads"), [((), 1), (("--threads", 2), 2)])
def test_a_command_uses_one_thread_in_every_library_unless_told(tmp_path, options, threads):
    """PyTorch, BLAS and OpenMP alike: two threads of NumPy and scikit-learn took three times as long as one."""
    watch = (
        "import sys, threadpoolctl, torch; from scorefield.cli import builtin_data, main\n"
        "def seen(*_): print({torch.get_num_threads(), *(each['num_threads'] for each in threadpoolctl.threadpool_info())})\n"
        "builtin_data.toys.load = seen; main()"
    )
    command = [sys.executable, "-c", watch, "data", "moons", "--out", tmp_path / "moons.csv", *options]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.stdout.strip() == f"{{{threads}}}", (done.stdout, done.stderr)


def test_no_command_replaces_what_is_there_unless_it_is_told():
    told = [fields["force"].default for row in COMMANDS.values() if "force" in (fields := row.__dataclass_fields__)]
    assert told
    assert not any(told)
