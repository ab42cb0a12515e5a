"""`cdp-stream worker`: both stages on Kafka, each in its own process; or one of them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click

from cdp_stream.cli.logs import LEVELS, log_to_stderr
from cdp_stream.cli.topology import load_compiled
from cdp_stream.stream.settings import Settings

_POLL_S = 0.05
_KILL_AFTER_S = 9.0
_RESTART_AFTER_S = 1.0
_STAGES = ("identity", "profiles")


@click.command()
@click.argument("topology", type=click.Path(path_type=Path))
@click.option("--stage", type=click.Choice([*_STAGES, "all"]), default="all", show_default=True, help="Stage to run.")
@click.option("--apply", is_flag=True, help="Put the file's topology in force if another version is.")
@click.option("--restart", is_flag=True, help="Start a stage again when its process ends unexpectedly.")
@click.option("--log-level", type=LEVELS, default="INFO", show_default=True)
@click.option(
    "--lifeline", type=int, hidden=True, help="A pipe that the supervisor holds open; its end is the stage's."
)
def worker(topology: Path, stage: str, apply: bool, restart: bool, log_level: str, lifeline: int | None) -> None:
    """Run TOPOLOGY's stages on the Kafka of CDP_STREAM_KAFKA until SIGTERM or Ctrl-C.

    \b
    Examples:
      CDP_STREAM_KAFKA=localhost:9092 cdp-stream worker topologies/ecommerce
      cdp-stream worker topologies/ecommerce --stage profiles
    """
    # Until something has begun there is nothing to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if lifeline is not None:
        threading.Thread(target=_end_with_supervisor, args=(lifeline,), daemon=True, name="lifeline").start()
    compiled = load_compiled(topology)
    settings = Settings.from_environ(os.environ)
    if stage == "all":
        sys.exit(_supervise(sys.argv[1:], restart=restart))
    from cdp_stream.stream.worker import run_stage

    log_to_stderr(stage, log_level)
    run_stage(settings, compiled, stage, apply=apply)


class _Supervisor:
    """The two stage processes; a signal is passed on, and one that fails takes the other down.

    Both hold the end of a pipe whose other end is here: it closes with this process, however that ends.
    """

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._lifeline, self._held = os.pipe()
        self.children = {stage: self._start(stage) for stage in _STAGES}
        self.stopping: float | None = None

    def _start(self, stage: str) -> subprocess.Popen[bytes]:
        more = ["--stage", stage, "--lifeline", str(self._lifeline)]
        command = [sys.executable, "-m", "cdp_stream", *self._arguments, *more]
        return subprocess.Popen(command, pass_fds=(self._lifeline,))  # noqa: S603

    def stop(self, *_: object) -> None:
        """Pass a stop on to both."""
        if self.stopping is None:
            self.stopping = time.monotonic()
        for child in self.children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    def code(self) -> int:
        """Of both, when they have ended. One that was not yet at work when it was asked to stop has just ended."""
        asked = (0, -signal.SIGTERM) if self.stopping is not None else (0,)
        return max(
            (abs(child.returncode) for child in self.children.values() if child.returncode not in asked), default=0
        )

    def restart(self, stage: str) -> None:
        """Start a stage again after a moment."""
        time.sleep(_RESTART_AFTER_S)
        # What was to be applied has been, and another version may have been applied since.
        self._arguments = [argument for argument in self._arguments if argument != "--apply"]
        self.children[stage] = self._start(stage)


def _end_with_supervisor(lifeline: int) -> None:
    """Wait for the end of the supervisor, then stop as it would have asked to: nobody else can stop this stage now."""
    os.read(lifeline, 1)
    logging.getLogger("cdp_stream.worker").critical("the supervisor has ended")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_KILL_AFTER_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _supervise(arguments: list[str], *, restart: bool) -> int:
    stages = _Supervisor(arguments)
    signal.signal(signal.SIGTERM, stages.stop)
    signal.signal(signal.SIGINT, stages.stop)
    code = 0
    while True:
        running = [stage for stage, child in stages.children.items() if child.poll() is None]
        ended = [stage for stage in stages.children if stage not in running]
        if stages.stopping is None and ended:
            if restart:
                for stage in ended:
                    stages.restart(stage)
                continue
            code = 1
            stages.stop()
        if not running:
            return code or stages.code()
        if stages.stopping is not None and time.monotonic() - stages.stopping > _KILL_AFTER_S:
            for child in stages.children.values():
                if child.poll() is None:
                    child.kill()
            code = 1
        time.sleep(_POLL_S)
