"""Metrics of a model beside those of real rows, as lines and as plain values."""

import dataclasses
import textwrap

from scorefield.evaluation.metrics import Comparison
from scorefield.evaluation.verdict import Verdict


def compared_lines(compared: dict[str, Comparison], verdict: Verdict) -> list[str]:
    """Return metrics of a model beside those of real rows, and the verdict, as lines of up to 120 columns."""
    return [
        f"{'':38}{'this model':>22}{'real against real':>22}{'excess, in errors':>20}",
        *(
            f"{name.replace('_', ' '):38}{value.model!s:>22}{value.real!s:>22}{value.excess:>20.1f}"
            for name, value in compared.items()
        ),
        *textwrap.wrap(f"verdict: {verdict.sentence}", 120, subsequent_indent="  ", break_on_hyphens=False),
    ]


def compared_json(compared: dict[str, Comparison]) -> dict[str, object]:
    """Return metrics with their excess as one flat object."""
    return {name: dataclasses.asdict(value) | {"excess": value.excess} for name, value in compared.items()}
