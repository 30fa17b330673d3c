"""Tutorials on score matching made again: as published, and corrected, with every published number beside ours.

An entry is a folder with `tutorial.run(out, *, seeds=10, quick=False)`. It writes its figures and animations below
out / "as-published" and out / "corrected" and returns its results, one row a number (see `report.row`). With quick it
takes fewer steps and seeds, for tests. An entry whose trainings are shortened takes full=True for the published length.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scorefield.gallery.digits.tutorial import run as run_digits
from scorefield.gallery.finite_difference.tutorial import run as run_finite_difference
from scorefield.gallery.langevin_roll.tutorial import run as run_langevin_roll
from scorefield.gallery.mnist.tutorial import run as run_mnist
from scorefield.gallery.report import Results
from scorefield.gallery.score_fields.tutorial import run as run_score_fields
from scorefield.gallery.score_sde.tutorial import run as run_score_sde
from scorefield.gallery.swiss_roll.tutorial import run as run_swiss_roll


@dataclass(frozen=True)
class Entry:
    """A tutorial of the gallery: its title and run(out, *, seeds=10, quick=False), which makes it."""

    title: str
    run: Callable[..., Results]


ENTRIES: dict[str, Entry] = {
    "000-score-sde": Entry("Score-based modelling through stochastic differential equations", run_score_sde),
    "001-finite-difference": Entry("Finite-difference score matching in one dimension", run_finite_difference),
    "002-swiss-roll": Entry("Score-based models with an SDE: a swiss roll, and one Gaussian", run_swiss_roll),
    "002-langevin": Entry("Implicit score matching and Langevin dynamics on a Swiss roll", run_langevin_roll),
    "002-mnist": Entry("Score-based models with an SDE: MNIST by a U-Net, and our default beside it", run_mnist),
    "003-digits": Entry("Score matching on digits, at one level of noise and at all", run_digits),
    "004-score-fields": Entry("Score fields and Langevin dynamics in the plane", run_score_fields),
}
"""The entries by their name on the command line."""
