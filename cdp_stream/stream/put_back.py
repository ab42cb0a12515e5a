"""A backup put back as the state of a space: checked first, then copied beside, and put in place by renaming.

Until the last moment nothing that is there is touched, so an interrupted one is simply begun again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cdp_stream.errors import StateError, UsageError
from cdp_stream.model.time import DAY_MS, Instant
from cdp_stream.stages.state_format import require_readable
from cdp_stream.store.rocks import is_in_use
from cdp_stream.stream.backup import Advance, Manifest, PartitionCopy, copy_file, read_manifest, synced
from cdp_stream.stream.owner import is_stale
from cdp_stream.stream.topics import TopicNames

_PARTITIONS: Final = ("identity-*", "profiles-*")


def put_back(
    backup: Path,
    state: Path,
    names: TopicNames,
    now_ms: Instant,
    begin: Callable[[int], Advance],
    *,
    replace: bool = False,
) -> Manifest:
    """Make the state folder what the backup holds, and return the backup's manifest.

    `replace`: what is there goes. `begin` is told how many bytes are to be copied. Raises StateError for a backup that is
    damaged, too old, of another space or of a later state format, and where a worker runs on the folder; UsageError
    where state is there and `replace` is not given. Then nothing has been changed.
    """
    manifest = read_manifest(backup)
    _require_same_space(manifest, names, backup)
    for copy in manifest.copies:
        require_readable(copy.state_format)
    old = [copy for copy in manifest.copies if is_stale(copy.written, now_ms)]
    if old:
        days = max((now_ms - copy.written) // DAY_MS for copy in old)
        raise StateError(
            f"{backup}: {', '.join(copy.folder for copy in old)} was last written {days} days ago; the changelog has "
            "forgotten deletions since, so nobody may go on from it. Start the worker on an empty data folder: it "
            "restores the whole state from the changelog"
        )
    state.parent.mkdir(parents=True, exist_ok=True)
    with _alone(state.parent):
        _require_room(state, replace=replace)
        fresh, former = (state.parent / f".{what}-{state.name}" for what in ("restoring", "replaced"))
        # Of one that was interrupted.
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
        fresh.mkdir()
        advance = begin(manifest.size)
        for copy in manifest.copies:
            _put(copy, backup / copy.folder, fresh / copy.folder, advance)
        _require_room(state, replace=replace)
        if state.exists():
            state.rename(former)
        fresh.rename(state)
        synced(state.parent)
        shutil.rmtree(former, ignore_errors=True)
    return manifest


def _require_same_space(manifest: Manifest, names: TopicNames, backup: Path) -> None:
    theirs = (manifest.space, manifest.topic_prefix, manifest.partitions)
    ours = (names.space, names.prefix, names.partitions)
    for what, found, wanted in zip(("space", "topic prefix", "partitions"), theirs, ours, strict=True):
        if found != wanted:
            raise StateError(f"{backup}: a backup of another space: its {what} is {found!r}, the topology's {wanted!r}")


def _require_room(state: Path, *, replace: bool) -> None:
    there = sorted(path for pattern in _PARTITIONS for path in state.glob(pattern))
    held = [path.name for path in there if is_in_use(path)]
    if held:
        raise StateError(f"{state}: a worker has {', '.join(held)} open; stop it first")
    if there and not replace:
        raise UsageError(f"{state}: holds state already ({there[0].name} …); --replace puts the backup in its place")


def _put(copy: PartitionCopy, source: Path, to: Path, advance: Advance) -> None:
    to.mkdir()
    for expected in copy.files:
        try:
            found = copy_file(source / expected.name, to / expected.name, advance)
        except FileNotFoundError:
            found = None
        if found != expected:
            raise StateError(
                f"{source / expected.name}: {'is missing' if found is None else 'is damaged'}, its size and hash are not "
                "those in the manifest; take another backup"
            )
        # As old as it was: by this a worker tells whether the changelog still knows all that came after.
        os.utime(to / expected.name, ns=(copy.written * 1_000_000, copy.written * 1_000_000))
    synced(to)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other restore works in this data folder meanwhile; the lock goes with the process."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{folder}: another restore is under way here") from None
        yield
    finally:
        os.close(opened)
