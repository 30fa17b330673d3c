"""How a command is asked to stop, by SIGINT or SIGTERM: at once, or where its work can go on later."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = signal.SIGINT, signal.SIGTERM


class Stopped(KeyboardInterrupt):
    """The command was asked to stop, by the signal `number`; left says what has been kept, '' where nothing has."""

    def __init__(self, number: int, left: str = "") -> None:
        super().__init__(left)
        self.number, self.left = number, left


def at_once(number: int, frame: FrameType | None) -> None:
    """Stop wherever the command is: the handler of a signal. Raises Stopped."""
    raise Stopped(number)


@contextmanager
def held() -> Iterator[list[int]]:
    """Give a list that gets the number of the first signal, in place of acting on it; a second one acts as before."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()
