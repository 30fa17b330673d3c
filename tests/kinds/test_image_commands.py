"""Images learned by the commands: what a user draws, asks and is refused."""

import json
import math
import sys

import numpy as np
import pytest
from bars import BARS, KINDS, SIDE, bars
from PIL import Image

from scorefield import data
from scorefield.cli import entry as cli
from scorefield.cli import main
from scorefield.kinds.images import source
from scorefield.kinds.images.units import PixelTransform
from scorefield.reports import images
from scorefield.runs import folder as runs

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture
def command(monkeypatch, capsys):
    """The command line in this process: returns exit code, standard output and error."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments), "--threads", "1"])
        monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of the command line, and the folder that it lies in with its data."""
    folder = tmp_path_factory.mktemp("commands")
    images, kinds = bars(300, 0)
    np.savez(folder / "bars.npz", X=images, y=kinds)
    np.save(folder / "more.npy", bars(20, 9)[0])
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["fit", folder / "bars.npz", "--out", folder / "run", "--steps", 20, "--quiet", "--threads", 1]
        patch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        patch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return folder


@pytest.mark.slow
def test_a_user_draws_pictures_arrays_and_grids(fitted, command, tmp_path):
    run = fitted / "run"
    assert command("sample", run, "-n", 9, "-o", tmp_path / "grid.png", "--class", "standing")[0] == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (3 * SIDE + 2 * 2 + 2 * 2, 3 * SIDE + 2 * 2 + 2 * 2)
    assert command("sample", run, "-n", 70, "-o", tmp_path / "all.npz")[0] == 0
    found = np.load(tmp_path / "all.npz")
    assert found["X"].shape == (70, SIDE, SIDE)
    assert found["X"].dtype == np.uint8
    assert set(found["y"]) == {"lying", "standing"}
    assert command("sample", run, "-n", 5, "-o", tmp_path / "five.npy")[0] == 0
    assert np.array_equal(np.load(tmp_path / "five.npy"), found["X"][:5])
    assert command("sample", run, "-n", 3, "-o", tmp_path / "single")[0] == 0
    assert sorted(p.name for p in (tmp_path / "single").iterdir()) == [
        "00000.png",
        "00001.png",
        "00002.png",
        "labels.csv",
    ]


@pytest.mark.slow
def test_a_user_asks_for_probabilities_judgement_and_pictures(fitted, command, tmp_path, monkeypatch):
    run = fitted / "run"
    code, _, error = command("logprob", run, fitted / "more.npy", "-o", tmp_path / "p.csv")
    assert code == 0, error
    table = np.genfromtxt(tmp_path / "p.csv", delimiter=",", names=True)
    assert table.dtype.names == ("logprob", "stderr", "bits_per_dim")
    np.testing.assert_allclose(table["bits_per_dim"] * SIDE**2 * math.log(2), -table["logprob"], rtol=1e-5)
    for kind in range(2):  # the same images as pictures, in folders that are their classes
        (tmp_path / "pictures" / KINDS[kind * SIDE]).mkdir(parents=True)
        for k in range(kind * SIDE, kind * SIDE + SIDE):
            Image.fromarray(BARS[k]).save(tmp_path / "pictures" / KINDS[k] / f"{k:02}.png")
    np.savez(tmp_path / "same.npz", X=BARS, y=KINDS)
    for name in ("pictures", "same.npz"):
        code, _, error = command("logprob", run, tmp_path / name, "-o", tmp_path / f"{name}.csv")
        assert code == 0, error
    assert (tmp_path / "pictures.csv").read_bytes() == (tmp_path / "same.npz.csv").read_bytes()
    code, out, error = command("evaluate", run, "--json", "--against", tmp_path / "pictures")
    assert code == 0, error
    code, out, error = command("evaluate", run, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert {"bits_per_dim", "copying", "near_duplicates", "frechet_distance", "coverage", "verdict"} <= set(found)
    nats = found["bits_per_dim"]["value"] * SIDE**2 * math.log(2)
    assert found["log_probability"]["value"] == pytest.approx(-nats, rel=1e-5)
    code, out, _ = command("evaluate", run)
    assert code == 0
    assert "right about the classes of" in out
    assert f"verdict: {found['verdict']['sentence'][:12]}" in out
    pictures, shown = images.nearest, []
    monkeypatch.setattr(images, "nearest", lambda *each: shown.append(list(map(len, each[:2]))) or pictures(*each))
    assert command("plot", run)[0] == 0
    assert shown == [[16, 16]]  # each with the image that is nearest to it
    assert {p.name for p in (run / "figures").iterdir()} == {"overview.png", "path.png", "nearest.png", "loss.png"}


def test_the_same_command_again_does_nothing_and_another_is_refused(fitted, command):
    before = {path: path.read_bytes() for path in (fitted / "run").rglob("*.safetensors")}
    same = ("fit", fitted / "bars.npz", "--out", fitted / "run", "--steps", 20)
    assert command(*same)[0] == 0
    assert {path: path.read_bytes() for path in (fitted / "run").rglob("*.safetensors")} == before
    code, _, error = command(*same[:-1], 21)
    assert code == 2
    assert "with other options (steps)" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "{data}", "--out", "{new}", "--columns", "a"), "--columns is for tables"),
        (("fit", "{data}", "--out", "{new}", "--network", "energy"), "leave out --network"),
        (("fit", "{data}", "--out", "{new}", "--predicts", "noise"), "leave out --network, --predicts"),
        (("fit", "{data}", "--out", "{new}", "--crop", "4"), "--crop must be a height and a width such as 28x28"),
        (("fit", "{data}", "--out", "{new}", "--objective", "parzen"), "learns a density that is known"),
        (("fit", "moons", "--out", "{new}", "--crop", "4x4"), "--crop is for images, and moons holds a table"),
        (("sample", "{run}", "-o", "{new}.csv"), "a name ending in .png"),
        (("sample", "{run}", "-o", "{new}.png", "--class", "leaning"), "one of lying, standing"),
        (("sample", "{run}", "-o", "{new}.png", "--tol", "0.1"), "--tol is for tables"),
        (("sample", "{run}", "-o", "{new}.png", "--steps", "0"), "at least one step"),
        (("sample", "{run}", "-o", "{new}.png", "--sampler", "best"), "sampler must be one of"),
        (("sample", "{run}", "-o", "{new}.png", "--guidance", "nan"), "guidance must be a number from 0 on"),
        (("logprob", "{run}", "{data}", "-o", "{new}.csv", "--bound"), "a bound already"),
        (("score", "{run}", "{data}", "-o", "{new}.csv"), "learned images, for which there are"),
        (("frontier", "{run}"), "learned images, for which there are"),
        (("density", "{run}", "-o", "{new}.csv"), "learned images, for which there are"),
    ],
)
def test_misuse_is_one_line_and_leaves_nothing(fitted, command, tmp_path, arguments, message):
    places = {"data": fitted / "bars.npz", "run": fitted / "run", "new": tmp_path / "new"}
    code, out, error = command(*(argument.format(**places) for argument in arguments))
    assert code == 2, error
    assert out == ""
    assert message in error
    assert error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_is_judged_by_images_that_it_did_not_learn_from(fitted, command):
    run = runs.read(fitted / "run")
    every = data.read_images(fitted / "bars.npz")
    train, held_out, _ = source.known(run, PixelTransform.saved(run.units), None)
    learned_from, validation, test = data.split(len(every.pixels), run.config.seed)
    assert len(test) == 0  # they are too few
    assert np.array_equal(train.pixels, every.pixels[learned_from])
    assert np.array_equal(held_out.pixels, every.pixels[validation])
    assert np.array_equal(held_out.labels, every.labels[validation])
    assert "chose the weights" in command("evaluate", fitted / "run")[2]
