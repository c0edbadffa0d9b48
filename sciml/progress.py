"""What long work tells whoever waits for it."""

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Told of every report of a solve; this one stays silent."""

    def report(self, done: float, values: Mapping[str, float]) -> None:
        """Take a report.

        Args:
            done: the fraction of the work that is done, in [0, 1].
            values: what there is to show, by name: loss terms, errors, iterations.
        """


class TerminalProgress(Progress, AbstractContextManager["TerminalProgress"]):
    """Shows the latest report and the time left: as a bar on a terminal, else in a plain line now and then.

    Args:
        title: what is going on.
        stream: where to show it.
        interval: seconds between two plain lines.
    """

    def __init__(self, title: str, stream: IO[str] | None = None, interval: float = 5.0) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._interval = interval
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._shown = self._started - self._interval
        if self._stream.isatty():
            self._bar = _bar(self._stream)
            self._task = self._bar.add_task(self._title, total=1.0, values="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def report(self, done: float, values: Mapping[str, float]) -> None:
        text = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
        if self._bar:
            self._bar.update(self._task, completed=done, values=text)
            return
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            print(f"{self._title}  {done:4.0%}  {self._left(done, now)}  {text}", file=self._stream, flush=True)

    def _left(self, done: float, now: float) -> str:
        if not 0 < done <= 1:
            return "time left unknown"
        return f"{(now - self._started) * (1 - done) / done:.0f} s left"


def _bar(stream: IO[str]) -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    return Progress(*columns, console=Console(file=stream))
