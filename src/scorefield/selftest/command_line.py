"""The command line, called in this process."""

import io
import shlex
import signal
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple, NoReturn
from unittest.mock import patch

from scorefield.cli.entry import main


def call(*arguments: object) -> NoReturn:
    """Call the command line with these arguments; it ends by SystemExit."""
    with patch.object(sys, "argv", ["scorefield", *map(str, arguments)]):
        main()


class Answer(NamedTuple):
    """The exit code of a command, -1 for a traceback, and what it wrote to standard output and error."""

    code: int
    out: str
    err: str


def typed(command: str) -> Answer:
    """Return the answer to a command as a shell splits it."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            call(*shlex.split(command))
        except SystemExit as stop:
            return Answer(int(stop.code or 0), out.getvalue(), err.getvalue())
        except Exception as error:
            return Answer(-1, out.getvalue(), f"a traceback: {type(error).__name__}: {error}\n")
        finally:
            signal.signal(signal.SIGTERM, before)


def wrong_with_refusal(answer: Answer, says: Iterable[str]) -> str:
    """Return what is wrong with how a command refused; nothing where it is as promised."""
    code, out, err = answer
    if code != 2:
        return f"exit code {code}, not 2: {err.strip() or out.strip()}"
    if out or err.count("\n") != 1 or not err.startswith("scorefield: "):
        return f"not one line on standard error: {out + err!r}"
    missing = [fragment for fragment in says if fragment not in err]
    return f"{missing[0]!r} is not in: {err.strip()}" if missing else ""
