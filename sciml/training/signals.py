"""Ctrl-C and SIGTERM, held back until a training has written its checkpoint."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Remembers the first signal instead of acting on it; a second one acts at once.

    As a context it puts the handlers in place and, afterwards, those of before back. Outside the main thread,
    where Python delivers no signals, it does nothing.

    Args:
        forward: passes a signal on to the processes that this one waits for.
    """

    def __init__(self, forward: Callable[[int], None] = lambda number: None) -> None:
        self.received: int | None = None
        self._forward = forward
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Put the handlers in place (again: Lightning sets its own when it starts)."""
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                signal.signal(number, self._handle)

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in CAUGHT}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and os.getpid() == self._owner:
            self._forward(signal.SIGKILL)
            raise KeyboardInterrupt
        self.received = number
        self._forward(signal.SIGTERM)
