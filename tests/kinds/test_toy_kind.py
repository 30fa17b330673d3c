"""A third kind of data is a class and one row of KINDS: compass directions, learned through the same commands."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import refused
from torch import Tensor

from scorefield import data
from scorefield.cli import fit as fit_command
from scorefield.inference import samplers
from scorefield.kinds import loading as kinds_loading
from scorefield.kinds import registry
from scorefield.kinds.kind import Kind, Settings
from scorefield.numerics.tensors import spawn
from scorefield.numerics.whitening import moments
from scorefield.runs import loading
from scorefield.training.config import Config
from scorefield.training.problem import Part, Prepared, Problem

TURN = 360.0


@dataclass(frozen=True)
class Compass:
    """Degrees against points of the unit circle, times a scale."""

    scale: float
    dim: int = 2

    def forward(self, degrees: np.ndarray) -> Tensor:
        angle = torch.from_numpy(degrees) * 2 * math.pi / TURN
        return self.scale * torch.stack([angle.cos(), angle.sin()], 1)

    def inverse(self, z: Tensor) -> np.ndarray:
        return (torch.atan2(z[:, 1], z[:, 0]) * TURN / (2 * math.pi) % TURN).double().numpy()


@dataclass(frozen=True)
class Directions:
    degrees: np.ndarray
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompassProblem(Problem):
    rows: Tensor

    def prepare(self, config: Config) -> Prepared:
        model = config.model(*moments(self.rows))
        return Prepared(model, (Part(self.rows[10:], self.rows[:10]),), "none", "a toy has none", score_ratio=0.1)


@dataclass
class Estimator:
    model_: torch.nn.Module
    notes_: list[str]


@dataclass(frozen=True)
class Found:
    drawn: float
    real: float

    def lines(self) -> list[str]:
        return [f"mean resultant length {self.drawn:.3f}, of real directions {self.real:.3f}"]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def resultant(degrees: np.ndarray) -> float:
    return float(abs(np.exp(2j * np.pi * degrees / TURN).mean()))


class CompassKind(Kind):
    """One direction a line in a file that ends in .compass."""

    name, noun, drawn, key = "directions", "directions", "directions", "compass"
    options = frozenset()

    def owns(self, data):
        return data.endswith(".compass")

    def built_in(self, data):
        return False

    def check(self, request):
        if request["level"]:
            raise ValueError("directions are learned at all noise levels; leave out --level")

    def read(self, request):
        degrees = np.loadtxt(request["data"])
        return Directions(degrees, data.digest(pd.DataFrame({"degrees": degrees})))

    def learn_units(self, source, request):
        return Compass(1.5)

    def problem(self, source, units, request, device):
        return CompassProblem(units.forward(source.degrees).float())

    def settings(self, problem, request):
        return Settings(Config(steps=1, seed=request["seed"], width=16, features=8, batch_size=32))

    def words(self, source, units, settings, request):
        return [f"data      {len(source.degrees)} directions"]

    def facts(self, source):
        return {"digest": source.digest}

    def content(self, source, units):
        return {"compass": asdict(units)}

    def units_of(self, run):
        return Compass(**run.units["compass"])

    def estimator(self, run, units):
        found = loading.load(run, units.dim)
        return Estimator(found.model, found.notes)

    def check_drawing(self, run, asked, out, n, force):
        data.check_output(out, force)

    def _drawn(self, opened, n, seed):
        z = samplers.sample(opened.estimator.model_, n, generator=spawn(seed, "sample"))
        return self.units_of(opened.run).inverse(z.detach())

    def draw(self, opened, asked, out, n, seed, force):
        data.write_blocks(out, [pd.DataFrame({"degrees": self._drawn(opened, n, seed)})], force)
        return ""

    def log_probs(self, opened, points, bound):
        raise ValueError("a toy has no density")

    def evaluate(self, opened, against, seed):
        real = np.loadtxt(opened.run.request["data"])
        return Found(resultant(self._drawn(opened, 200, seed)), resultant(real)), []

    def plot(self, opened, folder):
        return []


@pytest.fixture
def north(tmp_path: Path, monkeypatch) -> Path:
    """A file of directions around north, and the kind that reads it, asked before tables."""
    monkeypatch.setattr(registry, "KINDS", {"directions": CompassKind(), **registry.KINDS})
    assert fit_command.kind_of is registry.kind_of
    assert kinds_loading.kind_of_run is registry.kind_of_run
    degrees = np.random.Generator(np.random.PCG64(0)).normal(0, 15, 300) % TURN
    np.savetxt(tmp_path / "north.compass", degrees)
    return tmp_path / "north.compass"


def test_a_kind_of_ones_own_fits_samples_and_evaluates_through_the_same_commands(north, tmp_path, run_main):
    """Directions stay directions, so many times around north as the data; again does nothing; -n 5 begins -n 50."""
    arguments = ("fit", north, "--out", tmp_path / "run", "--steps", "60")
    code, _, said = run_main(*arguments)
    assert code == 0, said
    assert "data      300 directions" in said
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert run_main(*arguments)[0] == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for n in (50, 5):
        assert run_main("sample", tmp_path / "run", "-n", n, "--out", tmp_path / f"{n}.csv")[0] == 0
    many, few = (pd.read_csv(tmp_path / f"{n}.csv")["degrees"] for n in (50, 5))
    assert few.equals(many[:5])
    assert many.between(0, TURN).all()
    code, out, _ = run_main("evaluate", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["real"] == resultant(np.loadtxt(north))
    assert run_main("evaluate", tmp_path / "run")[1].startswith("mean resultant length")
    assert run_main("plot", tmp_path / "run")[0] == 0
    assert (tmp_path / "run" / "figures" / "loss.png").is_file()


def test_its_options_and_its_damage_are_told_as_those_of_other_kinds(north, tmp_path, run_main):
    refused(
        run_main("fit", north, "--out", tmp_path / "run", "--bounds", "x=0:"), "--bounds is for tables", "directions"
    )
    refused(run_main("fit", north, "--out", tmp_path / "run", "--level", "0.3"), "leave out --level")
    assert not (tmp_path / "run").exists()
    assert run_main("fit", north, "--out", tmp_path / "run", "--steps", "5")[0] == 0
    refused(run_main("density", tmp_path / "run", "--out", tmp_path / "d.csv"), "learned directions")
    path = tmp_path / "run" / "config.toml"
    path.write_text(path.read_text().replace("scale = 1.5", "size = 1.5"))
    refused(run_main("sample", tmp_path / "run", "--out", tmp_path / "s.csv"), "config.toml is damaged")
