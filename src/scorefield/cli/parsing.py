"""Arguments to options, by tyro, whose framed mistakes become one line."""

import contextlib
import io
import re
from collections.abc import Callable

import tyro

from scorefield.cli.options import COMMANDS, Common


def parse(arguments: list[str], complain: Callable[[str], None]) -> Common:
    """Return the options typed; for a mistake `complain` is told in one line, and SystemExit(2) raised."""
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
            complain(one_line(errors.getvalue()))
        raise


def one_line(box: str) -> str:
    """Return the text of tyro's framed error message as one line."""
    text = [line for line in box.splitlines() if not line.startswith("\u256d")]  # the frame's top holds a title
    inside = re.sub(r"[\u2500-\u257f]", " ", " ".join(text))
    return re.sub(r"\s+", " ", inside).strip()
