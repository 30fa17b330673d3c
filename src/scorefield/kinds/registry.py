"""The kinds of data that there are, and which one a data set or a RUN is of."""

from typing import Any

from scorefield.kinds.images.kind import ImageKind
from scorefield.kinds.kind import Kind
from scorefield.kinds.tables.kind import TableKind
from scorefield.runs.checkpoint import CheckpointError
from scorefield.runs.folder import Run

KINDS: dict[str, Kind] = {"images": ImageKind(), "tables": TableKind()}
"""The kinds by name, in the order in which they are asked whether DATA is theirs; tables take what no other does."""


def kind_of(data: str) -> Kind:
    """Return the kind that DATA is of: the first that owns it."""
    return next(kind for kind in KINDS.values() if kind.owns(data))


def kind_of_run(run: Run) -> Kind:
    """Return the kind of a run. Raises CheckpointError where its config.toml has the units of none."""
    for kind in KINDS.values():
        if kind.key in run.units:
            return kind
    raise CheckpointError(f"{run.folder / 'config.toml'} is damaged: it has no units; fit it again with --force")


def units_of(kind: Kind, run: Run) -> Any:  # noqa: ANN401, each kind has its own
    """Return the units of a run. Raises CheckpointError where config.toml does not hold them."""
    try:
        return kind.units_of(run)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        path = run.folder / "config.toml"
        raise CheckpointError(f"{path} is damaged: {error}; fit it again with --force") from error
