"""The command line; what parses it is loaded when it is asked for something, what it does when that is known."""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line; see `entry.main`."""
    from scorefield.cli import entry

    entry.main()
