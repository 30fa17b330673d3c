"""The command `density`: by the flow and by the path, bounds, lattices, one noise level."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import TINY, refused, scorefield
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline


@pytest.fixture(scope="module")
def one_column(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "one"
    scorefield("fit", "mixture-1d-wide", "--rows", 2500, "--out", out, *TINY)
    return out


@pytest.mark.slow
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


@pytest.mark.slow
def test_density_by_path_is_the_integral_of_the_score(one_column, tmp_path, run_main):
    options = ("--out", tmp_path / "d.csv", "--points", 201, "--method", "path", "--quiet")
    assert run_main("density", one_column, *options)[0] == 0
    found = pd.read_csv(tmp_path / "d.csv")
    assert run_main("score", one_column, tmp_path / "d.csv", "-o", tmp_path / "s.csv", "--quiet")[0] == 0
    slope = CubicSpline(found["x"], found["log_density"]).derivative()(found["x"])
    np.testing.assert_allclose(slope[5:-5], pd.read_csv(tmp_path / "s.csv")["score_x"][5:-5], atol=0.05)
    assert simpson(found["density"], x=found["x"]) == pytest.approx(1, abs=1e-9)


@pytest.mark.slow
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
