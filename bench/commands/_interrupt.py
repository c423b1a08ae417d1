"""What Ctrl-C means to a command that runs for long."""

from __future__ import annotations

import signal


def interrupt_once() -> None:
    """The first Ctrl-C, or request to end, is a KeyboardInterrupt, after which a run tidies up; a second one kills.

    A terminal that is closed asks to end too, more than once and of nobody's intent: that never kills, and is nothing
    under nohup.
    """

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)
