"""The command line: exit codes and one-line errors. What does the work is imported when it is needed."""

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from scorefield import __version__
from scorefield.cli.parsing import parse
from scorefield.runs import signals


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
    options = parse(arguments, _complain)
    try:
        from scorefield.cli import dispatch

        _on_signals(signals.at_once)
        dispatch.run(options)
    except ValueError as error:
        _complain(str(error))
        return 2
    except (RuntimeError, OSError, MemoryError) as error:
        _complain(str(error) or type(error).__name__)
        return 1
    return 0


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
