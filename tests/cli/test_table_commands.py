"""What the commands say of a fitted table: samples, scores, densities, its evaluation, pictures."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import TINY, refused, scorefield


@pytest.mark.slow
def test_a_table_goes_in_and_samples_in_its_columns_and_types_come_out(table, fitted, tmp_path, run_main):
    for extension in ("csv", "tsv", "parquet", "npy", "npz"):
        assert run_main("sample", fitted, "-n", 40, "--out", tmp_path / f"s.{extension}", "--quiet")[0] == 0
    frame, again = pd.read_csv(tmp_path / "s.csv"), pd.read_parquet(tmp_path / "s.parquet")
    assert list(frame.columns) == ["height", "age", "smoker"]
    assert frame.dtypes.tolist() == pd.read_csv(table).dtypes.tolist()
    pd.testing.assert_frame_equal(frame, again)
    assert frame["age"].between(-100, 200).all()
    np.testing.assert_array_equal(np.load(tmp_path / "s.npy")[:, 0], frame["height"])


@pytest.mark.slow
def test_the_first_rows_of_a_long_sample_are_a_short_one_byte_for_byte(fitted, tmp_path, run_main):
    assert run_main("sample", fitted, "-n", 1500, "-o", tmp_path / "long.csv", "--quiet")[0] == 0
    assert run_main("sample", fitted, "-n", 10, "-o", tmp_path / "short.csv", "--quiet")[0] == 0
    assert (tmp_path / "long.csv").read_bytes().startswith((tmp_path / "short.csv").read_bytes())
    assert run_main("sample", fitted, "-n", 10, "-o", tmp_path / "other.csv", "--seed", 1, "--quiet")[0] == 0
    assert (tmp_path / "other.csv").read_bytes() != (tmp_path / "short.csv").read_bytes()


@pytest.mark.slow
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


@pytest.mark.slow
def test_points_are_taken_by_name_in_any_order(table, fitted, tmp_path, run_main):
    frame = pd.read_csv(table).head(5)
    frame.assign(extra=1.0)[["smoker", "extra", "age", "height"]].to_csv(tmp_path / "mixed.csv", index=False)
    frame.to_csv(tmp_path / "plain.csv", index=False)
    for name in ("mixed", "plain"):
        assert (
            run_main("logprob", fitted, tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.parquet", "--quiet")[0] == 0
        )
    assert (tmp_path / "mixed.parquet").read_bytes() == (tmp_path / "plain.parquet").read_bytes()


@pytest.mark.slow
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


@pytest.mark.slow
def test_evaluate_prints_every_number_with_its_error(fitted, run_main):
    code, out, _ = run_main("evaluate", fitted)
    assert code == 0
    for name in ("log-likelihood", "one Gaussian", "sliced wasserstein", "energy distance", "copying"):
        (line,) = [line for line in out.splitlines() if name in line]
        assert "+-" in line
    verdict = " ".join(line.strip() for line in out[out.index("verdict: ") :].splitlines())
    assert "400 samples against 100 rows, family false-alarm rate 0.001" in verdict


@pytest.mark.slow
def test_evaluate_names_the_column_that_differs(table, fitted, tmp_path, run_main):
    frame = pd.read_csv(table).head(40)
    frame["height"] += 200.0
    frame.to_csv(tmp_path / "others.csv", index=False)
    code, out, _ = run_main("evaluate", fitted, "--against", tmp_path / "others.csv")
    assert code == 0
    assert "verdict: NOT like the data" in out
    assert "height" in out[out.index("verdict: ") :]


@pytest.mark.slow
def test_evaluate_against_too_few_rows_says_how_many_are_needed(table, fitted, tmp_path, run_main):
    pd.read_csv(table).head(9).to_csv(tmp_path / "few.csv", index=False)
    refused(run_main("evaluate", fitted, "--against", tmp_path / "few.csv"), "at least 10 held-out rows", "got 9")
    pd.read_csv(table).head(10).to_csv(tmp_path / "ten.csv", index=False)
    assert run_main("evaluate", fitted, "--against", tmp_path / "ten.csv")[0] == 0


@pytest.mark.slow
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
