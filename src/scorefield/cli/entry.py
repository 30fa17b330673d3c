"""The command line: options, exit codes and one-line errors. The work is in `commands`, imported when it is needed."""

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import tyro
from tyro.conf import Positional, arg

from scorefield import __version__
from scorefield.runs import signals


@dataclass(kw_only=True)
class Common:
    """Options of every command."""

    threads: int | None = None
    """threads to compute with (one, which is fastest for small networks; all cores for images)"""
    device: str = "cpu"
    """device to compute on, such as cpu, cuda or mps"""
    quiet: bool = False
    """print nothing but results and errors"""


@dataclass(kw_only=True)
class Fit(Common):
    """Learn the score of a data set and keep it in a RUN folder; the same command again continues or does nothing."""

    data: Positional[str]
    """a .csv .tsv .parquet .npy or .npz file, a folder of images, or a built-in name (list them: scorefield data)"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """the RUN folder to make"""
    budget: str | None = None
    """training time, such as 30s, 5m or 2h (30s unless --steps is given)"""
    steps: int | None = None
    """training steps, in place of --budget"""
    seed: int = 0
    """seed of everything random"""
    process: str = "vp"
    """noising process: vp, subvp, ve, edm, cosine or straight"""
    objective: str = "denoising"
    """score-matching objective: denoising, likelihood, second-order, explicit, parzen, implicit, hutchinson,
    finite-difference, curvature, sliced, fd-sliced, energy-sliced or energy-denoising"""
    network: str = "mlp"
    """mlp, or energy: a scalar whose gradient is the score, so that the unnormalised log-density is known"""
    level: float = 0.0
    """learn one noise level only, in standard deviations of the whitened data (0: all, which logprob needs)"""
    predicts: str = "v"
    """what the network predicts: v, noise, clean, score or velocity"""
    columns: str | None = None
    """only these columns, separated by commas"""
    drop: str | None = None
    """all but these columns, separated by commas"""
    positive: str | None = None
    """columns that are always above 0 (whole numbers: not below), separated by commas; samples will be too"""
    bounds: str | None = None
    """limits of columns, such as share=0:1,age=18: (one side may be free); samples never leave them"""
    rows: int | None = None
    """rows to draw of a built-in data set (50,000, or all of one that is not drawn)"""
    labels: str | None = None
    """of images: a file of their labels (names of sub-folders, the IDX label file, y of an .npz are found without)"""
    layout: str | None = None
    """of an array of images: HW, HWC or CHW, where its shape does not tell"""
    resize: str | None = None
    """scale images to HEIGHTxWIDTH, such as 28x28, cutting off what is beyond"""
    crop: str | None = None
    """cut the centre of images, HEIGHTxWIDTH"""
    skip_bad: bool = False
    """leave out pictures that cannot be read, and count them"""
    force: bool = False
    """replace a RUN that was made with other options or other data"""


@dataclass(kw_only=True)
class Sample(Common):
    """Draw new rows from a RUN; -n 10 gives the first 10 rows of -n 1000."""

    run: Positional[Path]
    """a RUN folder"""
    n: Annotated[int, arg(aliases=["-n"])] = 1000
    """number of rows"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """file to write: .csv .tsv .parquet .npy or .npz; of images .png (a grid), .npy, .npz or a folder of pictures"""
    sampler: str | None = None
    """adams, heun, ddim, euler, dpmpp_2m, deis or adaptive_flow; with noise: ancestral, euler_maruyama, churned_heun,
    dpmpp_2m_sde, exponential_heun, adaptive_sde or predictor_corrector (what frontier recommends, else adams)"""
    steps: int | None = None
    """steps of the sampler (what frontier recommends, else 32)"""
    tol: float | None = None
    """error to reach, in standard deviations of the data, in place of --sampler and --steps: the cheapest is chosen"""
    label: Annotated[str | None, arg(name="class")] = None
    """of images with labels: draw this class only (all, as often as in the data)"""
    guidance: float = 1.0
    """of images with labels: 1 is the class as learned, 1.5 more typical and less varied"""
    seed: int = 0
    """seed of the draw"""
    force: bool = False
    """replace the file if it exists"""


@dataclass(kw_only=True)
class Frontier(Common):
    """Measure the error of every sampler on a RUN, and recommend one, which sample then uses.

    Writes RUN/frontier.json and RUN/figures/frontier.png.
    """

    run: Positional[Path]
    """a RUN folder"""
    tol: float = 0.01
    """error that the recommended sampler must not exceed, in standard deviations of the data"""
    seed: int = 0
    """seed of the latents"""
    json: bool = False
    """print one JSON object on standard output and nothing else there"""


@dataclass(kw_only=True)
class AtPoints(Common):
    """Options of the commands that answer at points."""

    run: Positional[Path]
    """a RUN folder"""
    points: Positional[Path]
    """a table with the columns of the RUN"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """file to write: .csv .tsv .parquet .npy or .npz"""
    force: bool = False
    """replace the file if it exists"""


@dataclass(kw_only=True)
class Score(AtPoints):
    """Write the score, the gradient of the log-density, at points: columns score_<column>, per unit of the column."""


@dataclass(kw_only=True)
class Logprob(AtPoints):
    """Write the log-density at points, in nats, and its errors: of random probes, of the solver, of where it starts.

    Columns logprob, stderr, solver_error, start_error, evaluations.
    """

    bound: bool = False
    """add columns bound and bound_stderr: a lower bound of the log-density of what the reverse SDE generates"""


@dataclass(kw_only=True)
class Evaluate(Common):
    """Compare a RUN with held-out rows: log-likelihood, distances, copying, each with its error, and a verdict."""

    run: Positional[Path]
    """a RUN folder"""
    against: Path | None = None
    """a table of real rows to compare with, in place of the RUN's own test rows"""
    seed: int = 0
    """seed of the samples that are compared"""
    json: bool = False
    """print one JSON object on standard output and nothing else there"""


@dataclass(kw_only=True)
class Plot(Common):
    """Draw a RUN: data beside samples, density and score field, loss; PNG files in RUN/figures."""

    run: Positional[Path]
    """a RUN folder"""


@dataclass(kw_only=True)
class CompareObjectives(Common):
    """Train one network by each objective for the same time; a table and a figure of their errors by noise level."""

    data: Positional[str]
    """a .csv .tsv .parquet .npy or .npz file, or a built-in name"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """the folder for comparison.csv and comparison.png"""
    budget: str = "10s"
    """training time of each objective"""
    objectives: str | None = None
    """only these objectives, separated by commas (all that apply)"""
    rows: int | None = None
    """rows to draw of a built-in data set (50,000)"""
    seed: int = 0
    """seed of everything random"""
    force: bool = False
    """replace the files in the folder"""


@dataclass(kw_only=True)
class Density(Common):
    """Write the density of a RUN of one or two columns on a grid, and draw it into RUN/figures/density.png."""

    run: Positional[Path]
    """a RUN folder"""
    out: Annotated[Path, arg(aliases=["-o"])]
    """file to write: .csv .tsv .parquet .npy or .npz"""
    method: str | None = None
    """flow (the default), or path: the integral of the score, all that a RUN of one noise level has"""
    points: int | None = None
    """points of the grid along each column (401 for one column, 61 for two)"""
    force: bool = False
    """replace the file if it exists"""


@dataclass(kw_only=True)
class Data(Common):
    """Write a built-in data set to a file; without a name, list them."""

    name: Positional[str | None] = None
    """name of a built-in data set"""
    n: Annotated[int | None, arg(aliases=["-n"])] = None
    """number of rows (50,000, or all of a data set that is not drawn)"""
    seed: int = 0
    """seed of the draw"""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """file to write: .csv .tsv .parquet .npy or .npz"""
    force: bool = False
    """replace the file if it exists"""


@dataclass(kw_only=True)
class Gallery(Common):
    """Make a tutorial on score matching again, as published and corrected: figures, animations, results.json."""

    action: Positional[Literal["list", "run"]]
    """list the entries, or run one"""
    name: Positional[str | None] = None
    """name of the entry to run"""
    out: Annotated[Path | None, arg(aliases=["-o"])] = None
    """folder to write"""
    seeds: int = 10
    """number of seeds, from 0 on, of which the results are medians and ranges"""
    full: bool = False
    """train as long as the tutorial did, which can take hours; not every entry is shortened without it"""
    force: bool = False
    """write into a folder that is not empty"""


@dataclass(kw_only=True)
class Selftest(Common):
    """Check this installation: numbers, laws, faults, bad input, attacks; one line a test, with what it measured."""

    names: Positional[tuple[str, ...]] = ()
    """numbers of tests, such as R05 (all)"""
    smoke: bool = False
    """those that chance cannot fail, in small, in less than 5 minutes"""
    full: bool = False
    """many times as many cases, which takes hours; without --smoke and --full the quick form, less than 45 minutes"""
    prove: bool = False
    """plant a fault for each test, in small, and pass where the test finds it"""
    seed: int = 0
    """seed of everything random"""
    json: bool = False
    """print one JSON object on standard output and nothing else there"""


COMMANDS: dict[str, Callable[..., Common]] = {
    "fit": Fit,
    "sample": Sample,
    "frontier": Frontier,
    "score": Score,
    "logprob": Logprob,
    "evaluate": Evaluate,
    "plot": Plot,
    "compare-objectives": CompareObjectives,
    "density": Density,
    "data": Data,
    "gallery": Gallery,
    "selftest": Selftest,
}
"""The commands by name; each is a table of options; `commands.run` does what they ask for."""


def main() -> NoReturn:
    """Run the command line: exit 0 done, 1 the run failed, 2 misuse or bad input, 130 or 143 interrupted."""
    arguments = sys.argv[1:]
    if "--version" in arguments:
        print(f"scorefield {__version__}")
        sys.exit(0)
    _on_signals(_leave)
    try:
        sys.exit(_run(arguments))
    except signals.Stopped as stopped:
        sys.exit(_stop(stopped.number, stopped.left))


def _run(arguments: list[str]) -> int:
    options = _parse(arguments)
    try:
        from scorefield.cli import commands

        _on_signals(signals.at_once)
        commands.run(options)
    except ValueError as error:
        _complain(str(error))
        return 2
    except (RuntimeError, OSError, MemoryError) as error:
        _complain(str(error) or type(error).__name__)
        return 1
    return 0


def _parse(arguments: list[str]) -> Common:
    """Return the options typed; a mistake is one line on standard error and exit code 2."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="scorefield",
                description="Learn the score of a data set, the gradient of its log-density, and use it.",
                args=arguments or ["--help"],
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            _complain(_one_line(errors.getvalue()))
        raise


def _one_line(box: str) -> str:
    """Return the text of tyro's framed error message as one line."""
    text = [line for line in box.splitlines() if not line.startswith("\u256d")]  # the frame's top holds a title
    inside = re.sub(r"[\u2500-\u257f]", " ", " ".join(text))
    return re.sub(r"\s+", " ", inside).strip()


def _complain(message: str) -> None:
    print("scorefield: " + re.sub(r"\s+", " ", message).strip(), file=sys.stderr)


def _left_behind() -> str:
    """Return what a stopped command leaves, in words."""
    if sys.argv[1:2] == ["fit"]:
        return "the same fit command continues from the last checkpoint"
    if sys.argv[1:2] == ["gallery"]:
        return "a folder without results.json is not complete"
    return "no output was written"


def _on_signals(act: Callable) -> None:
    for number in signals.SIGNALS:
        signal.signal(number, act)


def _leave(number: int, frame: object) -> NoReturn:
    """Stop while Python imports, which can lose what a handler raises."""
    os._exit(_stop(number, ""))


def _stop(number: int, left: str) -> int:
    """Say what a stopped command leaves, and return its exit code."""
    _complain(f"{'interrupted' if number == signal.SIGINT else 'terminated'}; {left or _left_behind()}")
    return 128 + number
