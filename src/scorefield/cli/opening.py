"""What every command does first: threads, device, and the RUN that it is about, read once."""

from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from scorefield.cli import console
from scorefield.cli.options import Common
from scorefield.kinds.kind import Kind, Opened
from scorefield.kinds.loading import estimator_of
from scorefield.kinds.registry import KINDS, kind_of_run
from scorefield.runs import folder as runs
from scorefield.runs.folder import Run


def start(options: Common, usual: int = 1) -> None:
    """Use the threads asked for, or the usual ones, and check the device. Raises ValueError for one that is not."""
    threads = usual if options.threads is None else options.threads
    if threads < 1:
        raise ValueError(f"--threads must be at least 1; got {threads}")
    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)  # those of NumPy, SciPy and scikit-learn, which took three times as long with two
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {options.device!r} cannot be used here: {reason}; try --device cpu") from error


def read(folder: Path, options: Common) -> tuple[Kind, Run]:
    """Return a RUN and its kind, and use the threads that suit it. Raises ValueError where it is none."""
    run = runs.read(folder)
    kind = kind_of_run(run)
    start(options, kind.threads())
    return kind, run


def read_table(folder: Path, options: Common) -> Run:
    """Return a RUN of a table. Raises ValueError for one of another kind."""
    start(options)
    run = runs.read(folder)
    if (kind := kind_of_run(run)) is not KINDS["tables"]:
        raise ValueError(f"{folder} learned {kind.noun}, for which there are sample, logprob, evaluate and plot")
    return run


def opened(run: Run, options: Common) -> Opened:
    """Return a RUN with its estimator on the device asked for, and print its notes."""
    estimator = estimator_of(run)
    estimator.model_.to(options.device)
    console.speaker(options)(*(f"note: {note}" for note in estimator.notes_))
    return Opened(run, estimator)
