"""How a worker process ends: at once when anything in it fails, and within ten seconds when it is asked to stop.

An end at any moment loses nothing: the next owner goes on from the stored state. So nothing is worth going on for in a
process of which a part has failed, and nothing that takes long is waited for. Faust and its client do go on: a service
of theirs that fails leaves the others waiting, a rebalance swallows cancellations, and their threads keep a process
alive after its last line. Hence both ends go through the operating system.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

LEAVE_AFTER_S: Final = 8.0
"""How long an orderly end may take."""
_BY_FORCE_S: Final = 1.0
"""So much later even where the interpreter does not come round to it: by a thread that does not need it."""
log = logging.getLogger("cdp_stream.worker")


class Ending:
    """Of this process: whether it was asked to stop, and what becomes of a failure."""

    def __init__(self, leave_after_s: float = LEAVE_AFTER_S) -> None:
        self._leave_after_s = leave_after_s
        self._stop: Callable[[], object] | None = None
        self._asked = threading.Event()

    def watch(self) -> None:
        """Take SIGTERM and SIGINT, and what fails in a thread. In the main thread, before anything is begun."""
        threading.Thread(target=self._leave_in_time, daemon=True, name="ending").start()
        threading.excepthook = self._thread_failed
        # The system's handlers, not those of a loop: a loop that hangs has no turn for them.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def begin_with(self, stop: Callable[[], object]) -> None:
        """From here on a signal calls `stop`, which begins an orderly end; until here it ends the process at once."""
        self._stop = stop

    def fail(self, error: BaseException) -> None:
        """Say why, and end the process with exit code 1; from any thread. While it is being stopped, only say it."""
        if self._asked.is_set():
            log.warning("while stopping: %s: %s", type(error).__name__, error)
            return
        log.critical("stopping: %s: %s", type(error).__name__, error, exc_info=error)
        _exit(1)

    def leave(self) -> NoReturn:
        """End the process with exit code 0 as it stands: threads and tasks that are left are not waited for."""
        _exit(0)

    def _on_signal(self, *_: object) -> None:
        if self._stop is None:
            self.leave()
        if not self._asked.is_set():
            self._asked.set()
            self._stop()
            faulthandler.dump_traceback_later(self._leave_after_s + _BY_FORCE_S, exit=True)

    def _leave_in_time(self) -> None:
        self._asked.wait()
        time.sleep(self._leave_after_s)
        log.warning("the clients did not close in time; ending without them, the broker will notice")
        self.leave()

    def _thread_failed(self, what: Any) -> None:
        self.fail(what.exc_type() if what.exc_value is None else what.exc_value)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)
