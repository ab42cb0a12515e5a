"""A worker process ends: on any failure with 1, at once; on a signal with 0, in time, whatever still runs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

BEGIN = """
import asyncio, logging, signal, sys, threading, time
from cdp_stream.stream.ending import Ending
logging.basicConfig(stream=sys.stderr)
ending = Ending(leave_after_s=1.0)
ending.watch()
def ready():
    print("ready", flush=True)
"""


def run(script: str, *, signal_it: bool = False) -> tuple[int, float, str]:
    """Exit code, seconds since the signal or since it was ready, and what it said."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate(timeout=10)
        began = time.monotonic()
        if signal_it:
            process.send_signal(signal.SIGTERM)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    return process.returncode, time.monotonic() - began, said


def test_a_signal_before_anything_has_begun_ends_it_at_once() -> None:
    code, seconds, _ = run("ready(); time.sleep(60)", signal_it=True)
    assert code == 0
    assert seconds < 0.9


def test_an_orderly_end_is_not_waited_for_longer_than_it_takes() -> None:
    script = """
    async def main():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.begin_with(lambda: loop.call_soon_threadsafe(stop.set))
        ready()
        await stop.wait()
        threading.Thread(target=time.sleep, args=(60,)).start()
        ending.leave()
    asyncio.run(main())
    """
    code, seconds, said = run(script, signal_it=True)
    assert (0, "") == (code, said)
    assert seconds < 0.9


STUCK = {
    "a task swallows its cancellation": """
    async def deaf():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
    async def main():
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.begin_with(lambda: loop.call_soon_threadsafe(stop.set))
        waits = loop.create_task(deaf())
        ready()
        await stop.wait()
    asyncio.run(main())
    """,
    "the loop has no turn": """
    async def main():
        ending.begin_with(lambda: None)
        ready()
        while True:
            time.sleep(0.1)
    asyncio.run(main())
    """,
    "a thread outlives the last line": """
    ending.begin_with(lambda: None)
    threading.Thread(target=time.sleep, args=(60,)).start()
    ready()
    """,
}


@pytest.mark.parametrize("why", STUCK)
def test_what_does_not_end_is_left(why: str) -> None:
    code, seconds, said = run(STUCK[why], signal_it=True)
    assert code == 0
    assert "did not close in time" in said
    assert 0.9 < seconds < 5


def test_a_thread_that_fails_ends_the_process() -> None:
    script = """
    def fails():
        ready()
        raise ValueError("of the thread")
    threading.Thread(target=fails).start()
    time.sleep(60)
    """
    code, seconds, said = run(script)
    assert code == 1
    assert "CRITICAL" in said
    assert "ValueError: of the thread" in said
    assert seconds < 5


def test_a_failure_while_it_stops_is_only_said() -> None:
    script = """
    def stop():
        ending.fail(ValueError("while it stops"))
        ending.leave()
    ending.begin_with(stop)
    ready()
    time.sleep(60)
    """
    code, _, said = run(script, signal_it=True)
    assert code == 0
    assert "while stopping: ValueError: while it stops" in said
