"""Backups of the state folder of a space, taken while its worker runs, and put back into a folder.

Each partition is one consistent copy of its store between two steps, whatever the others' are: whoever owns it next takes
from the changelog what came after. A store that a worker has open is copied by a checkpoint that the worker makes on
request (`checkpoints.py`); one that nobody has open is copied as it lies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import msgspec

from cdp_stream import __version__
from cdp_stream.errors import StateError, UsageError
from cdp_stream.model.time import DAY_MS, Instant, format_instant
from cdp_stream.stages.identity import BARRIER_KEY
from cdp_stream.stages.state_format import DECISION_VERSION
from cdp_stream.store.rocks import RocksStore, copy_at_rest, files_written_ms, is_in_use, wipe
from cdp_stream.stream.catch_up import current_ms, restored_to
from cdp_stream.stream.checkpoints import DONE, FAILED, REQUESTS, WANTED
from cdp_stream.stream.owner import decode_stage_barrier, is_stale
from cdp_stream.stream.topics import TopicNames

MANIFEST: Final = "manifest.json"
BACKUP_FORMAT: Final = 1
_CHUNK: Final = 1024 * 1024
_POLL_S: Final = 0.1
_ABANDONED_AFTER_MS: Final = DAY_MS

Advance = Callable[[int], object]
"""Told of so many more bytes."""


class FileCopy(msgspec.Struct, frozen=True):
    """A file of a store, with what it must come back as."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=255)]
    size: int
    blake2b: str


class PartitionCopy(msgspec.Struct, frozen=True):
    """The store of one stage partition, and where it stands."""

    stage: Literal["identity", "profiles"]
    partition: Annotated[int, msgspec.Meta(ge=0)]
    state_format: int
    input_offset: int
    """Next offset of the identity log, or of the partition of profile changes."""
    changelog_offset: int
    """From here on the changelog is read by whoever owns the copy."""
    topology_version: str | None
    written: Instant
    """When the store was last written."""
    files: tuple[FileCopy, ...]

    @property
    def folder(self) -> str:
        """Its folder, in the backup as in the state."""
        return f"{self.stage}-{self.partition}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself; written last, so that an unfinished one has none."""

    space: str
    topic_prefix: str
    partitions: int
    """Of the profile stage, as its topology has it; there may be fewer here than the space has."""
    taken: str
    engine: str
    decision_version: int
    copies: tuple[PartitionCopy, ...]
    left_out: tuple[str, ...] = ()
    backup_format: int = BACKUP_FORMAT

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(copy.size for copy in self.copies)


def back_up(
    state: Path, to: Path, names: TopicNames, now_ms: Instant, within_s: float, begin: Callable[[int], Advance]
) -> Manifest:
    """Copy every stage partition whose state lies in `state` into the folder `to`, and return the manifest.

    `within_s`: how long a worker may take for its checkpoints. `begin` is told how many bytes are to be copied. State that
    is too old for any worker is left out. Raises UsageError for folders that cannot be used, StateError where a worker
    does not answer.
    """
    found = sorted(path.name for pattern in ("identity-*", "profiles-*") for path in state.glob(pattern))
    if not found:
        raise UsageError(f"{state}: no state here; is CDP_STREAM_DATA_DIR the worker's, and is this its machine?")
    _require_empty(to)
    _remove_abandoned(state, now_ms)
    request = state / f"{REQUESTS}{secrets.token_hex(6)}"
    request.mkdir()
    try:
        _collect(state, request, found, within_s)
        written = {name: _written_ms(request / name) for name in found}
        left_out = tuple(name for name in found if is_stale(written[name], now_ms))
        here = [name for name in found if name not in left_out]
        advance = begin(sum(file.stat().st_size for name in here for file in _files_of(request / name)))
        copies = tuple(_copy(request / name, to / name, written[name], advance) for name in here)
    finally:
        shutil.rmtree(request, ignore_errors=True)
    manifest = Manifest(
        names.space,
        names.prefix,
        names.partitions,
        format_instant(now_ms),
        __version__,
        DECISION_VERSION,
        copies,
        left_out,
    )
    unfinished = to / f"{MANIFEST}.unfinished"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    synced(unfinished)
    unfinished.rename(to / MANIFEST)
    synced(to)
    return manifest


def read_manifest(backup: Path) -> Manifest:
    """The manifest of a finished backup. Raises StateError for anything else."""
    try:
        raw = (backup / MANIFEST).read_bytes()
    except OSError as error:
        raise StateError(
            f"{backup / MANIFEST}: {error.strerror}; a backup that was interrupted has none, take another one"
        ) from None
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise StateError(f"{backup / MANIFEST}: not the manifest of a backup: {error}") from None
    if manifest.backup_format != BACKUP_FORMAT:
        raise StateError(
            f"{backup / MANIFEST}: backup_format is {manifest.backup_format}, this version of cdp-stream reads "
            f"{BACKUP_FORMAT}; restore it with version {manifest.engine}"
        )
    return manifest


def copy_file(source: Path, to: Path, advance: Advance) -> FileCopy:
    """Copy a file to the disk, and not only to memory; returns its size and hash."""
    digest, size = blake2b(digest_size=16), 0
    with source.open("rb") as reading, to.open("wb") as writing:
        while chunk := reading.read(_CHUNK):
            writing.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            advance(len(chunk))
        writing.flush()
        os.fsync(writing.fileno())
    return FileCopy(source.name, size, digest.hexdigest())


def _require_empty(to: Path) -> None:
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to}: is there already, and not empty; name a folder of its own for each backup")
    to.mkdir(parents=True, exist_ok=True)


def _remove_abandoned(state: Path, now_ms: Instant) -> None:
    """What backups left behind that were killed: they hold old files of the stores on the disk."""
    for folder in state.glob(f"{REQUESTS}*"):
        if now_ms - folder.stat().st_mtime * 1000 > _ABANDONED_AFTER_MS:
            shutil.rmtree(folder, ignore_errors=True)


def _collect(state: Path, request: Path, names: list[str], within_s: float) -> None:
    """A copy of every store in the folder of the request; by the worker, where it has the store open."""
    until = time.monotonic() + within_s
    pending, asked = list(names), set[str]()
    while pending:
        pending = [name for name in pending if not _is_copied(state, request, name, asked)]
        if pending and time.monotonic() > until:
            raise StateError(
                f"{state}: the process that has {', '.join(pending)} open gave no copy within {within_s:.0f} s. Is it a "
                "worker of this version, and not hung (/healthz)? Its log says more; try again, or with a longer --timeout"
            )
        time.sleep(_POLL_S if pending else 0)


def _is_copied(state: Path, request: Path, name: str, asked: set[str]) -> bool:
    """Is there a copy? A store that lies at rest is copied here; for another one the worker is asked, once."""
    wanted, done, failed = (request / (name + what) for what in (WANTED, DONE, FAILED))
    if done.exists():
        return True
    if is_in_use(state / name):
        if name not in asked or failed.exists():
            failed.unlink(missing_ok=True)
            wanted.touch()
            asked.add(name)
        return False
    # From here on a worker that opens it finds no request, so that nobody else writes what is copied now.
    wanted.unlink(missing_ok=True)
    asked.discard(name)
    if done.exists():
        return True
    wipe(request / name)
    try:
        copy_at_rest(state / name, request / name)
    except StateError:
        return False
    return True


def _written_ms(folder: Path) -> Instant:
    """When the copied store was last at its changelog's end."""
    files = files_written_ms(folder) or 0
    store = RocksStore(folder, read_only=True)
    try:
        current = current_ms(store)
    finally:
        store.close()
    return files if current is None else current


def _copy(source: Path, to: Path, written: Instant, advance: Advance) -> PartitionCopy:
    stage, _, partition = source.name.rpartition("-")
    store = RocksStore(source, read_only=True)
    try:
        barrier = decode_stage_barrier(store.get(BARRIER_KEY), stage)
        changelog = max(barrier.changelog, restored_to(store))
    finally:
        store.close()
    to.mkdir()
    files = tuple(copy_file(file, to / file.name, advance) for file in _files_of(source))
    synced(to)
    return PartitionCopy(
        cast("Literal['identity', 'profiles']", stage),
        int(partition),
        barrier.state_format,
        barrier.next_offset,
        changelog,
        barrier.topology_version,
        written,
        files,
    )


def _files_of(folder: Path) -> list[Path]:
    """The files that hold a store; not its lock and its diary, which whoever looks into it makes anew."""
    return sorted(file for file in folder.iterdir() if file.name != "LOCK" and not file.name.startswith("LOG"))


def synced(path: Path) -> None:
    """See to it that a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
