"""What a message about a table says, always on one line."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def drop_hint(name: str) -> str:
    """Return how to leave a column out."""
    return f"leave the column out with --drop {shlex.quote(name) if name.isprintable() else cut(name)}"


def mistake(where: str, expected: str, came: str, remedy: str | None = None) -> ValueError:
    """Return the error for bad input: where, what was expected, what came, and what to do if not obvious."""
    return ValueError(f"{where}: expected {expected}; got {came}" + (f"; {remedy}" if remedy else ""))


@contextmanager
def about(source: object) -> Iterator[None]:
    """Put the name of the data before what is found to be wrong with them."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{show(str(source))}: {error}") from error


def show(path: str | Path) -> str:
    """Return a path as a message shows it, on one line."""
    return str(path) if str(path).isprintable() else repr(str(path))


def cut(text: str, longest: int = 40) -> str:
    """Return a value as a message shows it, in quotes, on one line and not too long."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")


def listed(names: Sequence[str]) -> str:
    """Return the first ten names, and how many more there are."""
    shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10:,} more"
