"""Beside the walk: runs a local broker for as long as the process that wanted it lives, however that one ends.

`python -m cdp_stream.stream.guard [--remove FOLDER] -- COMMAND…` ends the command when its own standard input closes,
which the system does even for a parent that was killed. With `--remove` the folder goes with it.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from typing import Final

_STOP_WITHIN_S: Final = 15.0


def main(arguments: list[str]) -> int:
    """Run the command after `--` until it ends or standard input closes. Returns its exit code, 0 if ended from here."""
    options, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603
    wanted = threading.Event()
    threading.Thread(target=_end_with_parent, args=(process, wanted), daemon=True).start()
    code = process.wait()
    if options:
        shutil.rmtree(options[1], ignore_errors=True)
    return 0 if wanted.is_set() else code


def _end_with_parent(process: subprocess.Popen[bytes], wanted: threading.Event) -> None:
    sys.stdin.buffer.read()
    wanted.set()
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_WITHIN_S)
        return
    process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
