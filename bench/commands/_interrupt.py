"""What Ctrl-C means to a command that runs for long."""

from __future__ import annotations

import signal


def interrupt_once() -> None:
    """The first Ctrl-C, or request to end, is a KeyboardInterrupt, after which a run tidies up; a second one kills."""

    def interrupt(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
