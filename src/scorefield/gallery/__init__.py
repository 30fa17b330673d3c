"""Tutorials on score matching made again: as published, and corrected, with every published number beside ours.

An entry is a module with `run(out, *, seeds=10, quick=False)`. It writes its figures and animations below
out / "as-published" and out / "corrected" and returns its results, one row a number (see `report.row`). With quick it
takes fewer steps and seeds, for tests. An entry whose trainings are shortened takes full=True for the published length.
"""

from collections.abc import Callable
from dataclasses import dataclass

from scorefield.gallery import digits, finite_difference, langevin_roll, mnist, score_fields, score_sde, swiss_roll
from scorefield.gallery.report import Results


@dataclass(frozen=True)
class Entry:
    """A tutorial of the gallery: its title and run(out, *, seeds=10, quick=False), which makes it."""

    title: str
    run: Callable[..., Results]


ENTRIES: dict[str, Entry] = {
    "000-score-sde": Entry("Score-based modelling through stochastic differential equations", score_sde.run),
    "001-finite-difference": Entry("Finite-difference score matching in one dimension", finite_difference.run),
    "002-swiss-roll": Entry("Score-based models with an SDE: a swiss roll, and one Gaussian", swiss_roll.run),
    "002-langevin": Entry("Implicit score matching and Langevin dynamics on a Swiss roll", langevin_roll.run),
    "002-mnist": Entry("Score-based models with an SDE: MNIST by a U-Net, and our default beside it", mnist.run),
    "003-digits": Entry("Score matching on digits, at one level of noise and at all", digits.run),
    "004-score-fields": Entry("Score fields and Langevin dynamics in the plane", score_fields.run),
}
"""The entries by their name on the command line."""
