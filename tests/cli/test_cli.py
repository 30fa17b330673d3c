"""The command line as a user meets it: files, exit codes, one line of error, nothing half-written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline

from scorefield.cli import entry as cli
from scorefield.cli import main, opening
from scorefield.cli.options import COMMANDS
from scorefield.diffusion.by_name import PROCESSES
from scorefield.diffusion.prediction import PREDICTIONS
from scorefield.inference.samplers import SAMPLERS
from scorefield.training.objectives.table import OBJECTIVES

TINY = ("--steps", 30, "--quiet")


def scorefield(*arguments, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-m", "scorefield", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (done.args, done.stdout, done.stderr)
    return done


@pytest.fixture
def run_main(monkeypatch, capsys):
    """The command line in this process, which is quicker: returns exit code, standard output and error."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def refused(result: tuple[int, str, str], *fragments: str) -> None:
    """Exit code 2 and one line on standard error with these fragments, nothing on standard output, no traceback."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("scorefield: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in err, err


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "people.csv"
    draw = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame(
        {"height": draw.normal(170, 9, 1000), "age": draw.integers(18, 80, 1000), "smoker": draw.random(1000) < 0.3}
    )
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def fitted(table, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    scorefield("fit", table, "--out", out, *TINY)
    return out


def test_a_table_goes_in_and_samples_in_its_columns_and_types_come_out(table, fitted, tmp_path):
    for extension in ("csv", "tsv", "parquet", "npy", "npz"):
        scorefield("sample", fitted, "-n", 40, "--out", tmp_path / f"s.{extension}", "--quiet")
    frame, again = pd.read_csv(tmp_path / "s.csv"), pd.read_parquet(tmp_path / "s.parquet")
    assert list(frame.columns) == ["height", "age", "smoker"]
    assert frame.dtypes.tolist() == pd.read_csv(table).dtypes.tolist()
    pd.testing.assert_frame_equal(frame, again)
    assert frame["age"].between(-100, 200).all()
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy")[:, 0], frame["height"])


def test_the_first_rows_of_a_long_sample_are_a_short_one_byte_for_byte(fitted, tmp_path, run_main):
    assert run_main("sample", fitted, "-n", 1500, "-o", tmp_path / "long.csv", "--quiet")[0] == 0
    assert run_main("sample", fitted, "-n", 10, "-o", tmp_path / "short.csv", "--quiet")[0] == 0
    assert (tmp_path / "long.csv").read_bytes().startswith((tmp_path / "short.csv").read_bytes())
    assert run_main("sample", fitted, "-n", 10, "-o", tmp_path / "other.csv", "--seed", 1, "--quiet")[0] == 0
    assert (tmp_path / "other.csv").read_bytes() != (tmp_path / "short.csv").read_bytes()


def test_score_and_logprob_have_the_columns_promised(table, fitted, tmp_path, run_main):
    points = tmp_path / "points.csv"
    pd.read_csv(table).head(40).to_csv(points, index=False)
    assert run_main("score", fitted, points, "--out", tmp_path / "score.csv", "--quiet") == (0, "", "")
    assert list(pd.read_csv(tmp_path / "score.csv").columns) == ["score_height", "score_age", "score_smoker"]
    assert run_main("logprob", fitted, points, "--out", tmp_path / "log.csv", "--quiet") == (0, "", "")
    found = pd.read_csv(tmp_path / "log.csv")
    assert list(found.columns) == ["logprob", "stderr", "solver_error", "start_error", "evaluations"]
    assert len(found) == 40
    assert (found["evaluations"] > 10).all()


def test_points_are_taken_by_name_in_any_order(table, fitted, tmp_path, run_main):
    frame = pd.read_csv(table).head(5)
    frame.assign(extra=1.0)[["smoker", "extra", "age", "height"]].to_csv(tmp_path / "mixed.csv", index=False)
    frame.to_csv(tmp_path / "plain.csv", index=False)
    for name in ("mixed", "plain"):
        assert (
            run_main("logprob", fitted, tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.parquet", "--quiet")[0] == 0
        )
    assert (tmp_path / "mixed.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()


def test_evaluate_as_json_is_one_object_and_nothing_else(fitted):
    done = scorefield("evaluate", fitted, "--json", "--quiet")
    found = json.loads(done.stdout)
    assert set(found) >= {
        "log_likelihood",
        "gaussian_log_likelihood",
        "sliced_wasserstein",
        "energy_distance",
        "copying",
    }
    assert found["rows"] == 100
    assert set(found["copying"]) == {"model", "real", "excess"}
    for name in ("precision", "recall", "density", "coverage", "classifier_auc"):
        assert set(found[name]["model"]) == {"value", "stderr"}
    verdict = found["verdict"]
    assert (verdict["rows"], verdict["samples"], verdict["false_alarms"]) == (100, 400, 1e-3)
    assert all(set(one) == {"kind", "sentence", "p_value", "effect"} for one in verdict["findings"])
    assert found["notes"] == []


def test_evaluate_prints_every_number_with_its_error(fitted, run_main):
    code, out, _ = run_main("evaluate", fitted)
    assert code == 0
    for name in ("log-likelihood", "one Gaussian", "sliced wasserstein", "energy distance", "copying"):
        (line,) = [line for line in out.splitlines() if name in line]
        assert "+-" in line
    verdict = " ".join(line.strip() for line in out[out.index("verdict: ") :].splitlines())
    assert "400 samples against 100 rows, family false-alarm rate 0.001" in verdict


def test_evaluate_names_the_column_that_differs(table, fitted, tmp_path, run_main):
    frame = pd.read_csv(table).head(40)
    frame["height"] += 200.0
    frame.to_csv(tmp_path / "others.csv", index=False)
    code, out, _ = run_main("evaluate", fitted, "--against", tmp_path / "others.csv")
    assert code == 0
    assert "verdict: NOT like the data" in out
    assert "height" in out[out.index("verdict: ") :]


def test_evaluate_against_too_few_rows_says_how_many_are_needed(table, fitted, tmp_path, run_main):
    pd.read_csv(table).head(9).to_csv(tmp_path / "few.csv", index=False)
    refused(run_main("evaluate", fitted, "--against", tmp_path / "few.csv"), "at least 10 held-out rows", "got 9")
    pd.read_csv(table).head(10).to_csv(tmp_path / "ten.csv", index=False)
    assert run_main("evaluate", fitted, "--against", tmp_path / "ten.csv")[0] == 0


def test_evaluate_without_the_data_says_what_it_leaves_out(table, tmp_path, run_main):
    source = tmp_path / "data.csv"
    source.write_bytes(table.read_bytes())
    assert run_main("fit", source, "--out", tmp_path / "run", *TINY)[0] == 0
    source.unlink()
    code, out, _ = run_main("evaluate", tmp_path / "run", "--json")
    assert code == 0
    found = json.loads(out)
    assert "no check for copied training rows" in found["notes"][0]
    assert "copying" not in found
    pd.read_csv(table).head(60).to_csv(source, index=False)
    assert run_main("evaluate", tmp_path / "run", "--against", source)[0] == 0


@pytest.mark.slow
def test_plot_draws_pictures(fitted, run_main):
    assert run_main("plot", fitted)[0] == 0
    for name in ("overview.png", "loss.png"):
        assert (fitted / "figures" / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def one_column(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    scorefield("fit", "mixture-1d-wide", "--rows", 2500, "--out", out, *TINY)
    return out


def test_density_writes_the_flow_draws_both_and_says_how_far_to_trust_the_path(one_column, tmp_path, run_main):
    code, out, err = run_main("density", one_column, "--out", tmp_path / "d.csv", "--points", 101, "--quiet")
    assert (code, err) == (0, "")
    found = pd.read_csv(tmp_path / "d.csv")
    assert list(found.columns) == ["x", "density", "log_density"]
    assert len(found) == 101
    np.testing.assert_allclose(np.exp(found["log_density"]), found["density"])
    mass = float(re.search(r"^mass +([\d.]+) inside", out, re.M)[1])
    assert mass == pytest.approx(1, abs=0.01)
    assert simpson(found["density"], x=found["x"]) == pytest.approx(mass, abs=1e-5)
    assert re.search(r"^methods +total variation [\d.e-]+ between flow and path", out, re.M)
    assert re.search(r"^valley +[\d.]+ nats deep at x = ", out, re.M)
    assert (one_column / "figures" / "density.png").read_bytes().startswith(b"\x89PNG")
    refused(run_main("density", one_column, "--out", tmp_path / "d.csv"), "one that exists", "--force")
    assert run_main("logprob", one_column, tmp_path / "d.csv", "-o", tmp_path / "log.csv", "--quiet")[0] == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "log.csv")["logprob"], found["log_density"], atol=1e-9)


def test_density_by_path_is_the_integral_of_the_score(one_column, tmp_path, run_main):
    options = ("--out", tmp_path / "d.csv", "--points", 201, "--method", "path", "--quiet")
    assert run_main("density", one_column, *options)[0] == 0
    found = pd.read_csv(tmp_path / "d.csv")
    assert run_main("score", one_column, tmp_path / "d.csv", "-o", tmp_path / "s.csv", "--quiet")[0] == 0
    slope = CubicSpline(found["x"], found["log_density"]).derivative()(found["x"])
    np.testing.assert_allclose(slope[5:-5], pd.read_csv(tmp_path / "s.csv")["score_x"][5:-5], atol=0.05)
    assert simpson(found["density"], x=found["x"]) == pytest.approx(1, abs=1e-9)


def test_density_of_one_noise_level_is_by_path_and_its_flow_is_refused(tmp_path, run_main):
    run = tmp_path / "run"
    assert run_main("fit", "mixture-1d-wide", "--rows", 2500, "--level", 0.2, "--out", run, *TINY)[0] == 0
    code, out, _ = run_main("density", run, "--out", tmp_path / "d.csv", "--points", 51, "--quiet")
    assert code == 0
    assert "path, smoothed by the one noise level 0.2: no flow" in out
    refused(run_main("density", run, "--out", tmp_path / "e.csv", "--method", "flow"), "no flow", "--method path")
    assert not (tmp_path / "e.csv").exists()


@pytest.mark.slow
def test_density_of_two_columns_stays_inside_bounds_and_on_lattices(tmp_path, run_main):
    draw = np.random.Generator(np.random.PCG64(0))
    frame = pd.DataFrame({"share": draw.beta(2, 2, 2500), "density": draw.integers(0, 9, 2500), "batch": 3})
    frame.to_csv(tmp_path / "t.csv", index=False)
    bounds = ("--bounds", "share=0:1,density=0:8")
    assert run_main("fit", tmp_path / "t.csv", "--out", tmp_path / "run", *bounds, *TINY)[0] == 0
    code, out, _ = run_main("density", tmp_path / "run", "--out", tmp_path / "d.csv", "--points", 21, "--quiet")
    assert code == 0
    found = pd.read_csv(tmp_path / "d.csv")
    assert list(found.columns) == ["share", "density", "batch", "density_", "log_density"]
    assert len(found) == 21 * 9
    assert found["share"].between(0, 1, inclusive="neither").all()
    assert found["share"].min() < frame["share"].min() < frame["share"].max() < found["share"].max()
    assert sorted(set(found["density"])) == list(range(9))
    assert float(re.search(r"^mass +([\d.]+) inside", out, re.M)[1]) == pytest.approx(1, abs=0.05)
    assert re.search(r"^gradient +the score is one but for [\d.e-]+ of it", out, re.M)


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


def test_the_same_command_again_does_nothing(table, fitted, run_main):
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*.safetensors")}
    assert run_main("fit", table, "--out", fitted, *TINY)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in fitted.rglob("*.safetensors")} == before


def test_other_options_or_other_data_need_force(table, tmp_path, run_main):
    out = tmp_path / "run"
    source = tmp_path / "data.csv"
    source.write_bytes(table.read_bytes())
    assert run_main("fit", source, "--out", out, *TINY)[0] == 0
    refused(run_main("fit", source, "--out", out, "--steps", 31, "--quiet"), "other options (steps)", "--force")
    source.write_text(source.read_text().replace("True", "False", 1))
    refused(run_main("fit", source, "--out", out, *TINY), "from other data", "--force")
    assert run_main("fit", source, "--out", out, *TINY, "--force")[0] == 0


def test_columns_and_drop_choose_columns(table, tmp_path, run_main):
    assert run_main("fit", table, "--out", tmp_path / "a", *TINY, "--columns", "age,height")[0] == 0
    assert run_main("sample", tmp_path / "a", "-n", 3, "-o", tmp_path / "a.csv")[0] == 0
    assert list(pd.read_csv(tmp_path / "a.csv").columns) == ["age", "height"]
    assert run_main("fit", table, "--out", tmp_path / "b", *TINY, "--drop", "smoker")[0] == 0
    refused(run_main("fit", table, "--out", tmp_path / "c", *TINY, "--drop", "cigars"), "cigars", "smoker")


def test_constant_columns_are_named_and_left_out_of_scores(tmp_path, run_main):
    frame = pd.DataFrame({"a": np.arange(50.0) % 7, "batch": 3})
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, _, err = run_main("fit", tmp_path / "t.csv", "--out", tmp_path / "run", "--steps", 20)
    assert code == 0
    assert "batch is constant" in err
    assert "none are kept for a test" in err
    assert run_main("score", tmp_path / "run", tmp_path / "t.csv", "-o", tmp_path / "s.csv")[0] == 0
    assert list(pd.read_csv(tmp_path / "s.csv").columns) == ["score_a"]


def test_an_existing_output_needs_force(fitted, tmp_path, run_main):
    path = tmp_path / "s.csv"
    path.write_text("precious")
    refused(run_main("sample", fitted, "-n", 3, "-o", path), "one that exists", "--force")
    assert path.read_text() == "precious"
    assert run_main("sample", fitted, "-n", 3, "-o", path, "--force")[0] == 0


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
    options = ["--objective", objective, "--network", network, "--rows", 200, "--out", tmp_path / "run"]
    assert run_main("fit", "8gaussians", *options, "--steps", 3, "--quiet")[0] == 0
    text = (tmp_path / "run" / "config.toml").read_text()
    assert f'objective = "{objective}"' in text
    assert f'network = "{network}"' in text
    assert run_main("sample", tmp_path / "run", "-n", 5, "--out", tmp_path / "points.csv", "--quiet")[0] == 0
    for command in ("score", "logprob"):
        points = [tmp_path / "run", tmp_path / "points.csv", "--out", tmp_path / f"{command}.csv", "--quiet"]
        assert run_main(command, *points)[0] == 0
        assert np.isfinite(pd.read_csv(tmp_path / f"{command}.csv").to_numpy()).all()


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
