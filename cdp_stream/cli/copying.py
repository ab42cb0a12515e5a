"""The progress of a long copy, on stderr where that is a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

Begin = Callable[[int], Callable[[int], object]]
"""Given how many bytes are to come, gives what is told of those that have."""


@contextlib.contextmanager
def copying(what: str) -> Iterator[Begin]:
    """A bar of the bytes copied, with the speed and the time left; nothing where nobody looks."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def begin(total: int) -> Callable[[int], object]:
            task = progress.add_task(what, total=total)
            return lambda more: progress.advance(task, more)

        yield begin
