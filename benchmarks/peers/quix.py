"""Quix Streams 3: a stateful function over RocksDB state with a changelog topic, at least once or exactly once.

Its state belongs to a message key, so all records of a partition carry the same one here: the partitions' people share
nothing. Every event reads and writes single keys; a checkpoint is made every 5 s (its default) and at the end.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

from quixstreams import Application, State, message_context

from peers.job import Meter, arguments, identifiers, outcome


class Job:
    """Resolves events over the state that it is given, and keeps the owners aside for the hash."""

    def __init__(self, events: int, stop: Callable[[], None]) -> None:
        """`stop` is called with the last of so many events; a count given to Quix leaves out what tells nothing."""
        self.meter = Meter()
        self.owners: dict[str, str] = {}
        self._events = events
        self._stop = stop

    def resolve(self, raw: bytes, _key: Any, _timestamp: int, _headers: Any, state: State) -> bytes | None:
        """The record to be told, or None for an event that names nobody."""
        self.meter.count(1)
        if self.meter.done == self._events:
            self._stop()
        found = identifiers(raw)
        if not found:
            return None
        known = {identifier: state.get(f"o:{identifier}") for identifier in found}
        profiles = sorted({profile for profile in known.values() if profile is not None})
        if profiles:
            survivor = profiles[0]
        else:
            survivor = state.get("next", 0)
            state.set("next", survivor + 1)
        new = [identifier for identifier, profile in known.items() if profile != survivor]
        if new:
            members = state.get(f"m:{survivor}") or []
            for absorbed in profiles[1:]:
                moved = state.get(f"m:{absorbed}") or []
                state.delete(f"m:{absorbed}")
                new += [identifier for identifier in moved if identifier not in known]
            for identifier in new:
                state.set(f"o:{identifier}", survivor)
                self.owners[identifier] = f"{message_context().partition}-{survivor}"
            state.set(f"m:{survivor}", members + new)
        return b'{"profile":%d}' % survivor


def main() -> None:
    options = arguments(__doc__ or "")
    folder = tempfile.mkdtemp()
    app = Application(
        broker_address=options.kafka,
        consumer_group=f"{options.out}.group",
        auto_offset_reset="earliest",
        processing_guarantee=options.guarantee,
        state_dir=folder,
        loglevel=logging.WARNING,
    )
    source = app.topic(options.source, value_deserializer="bytes", key_deserializer="bytes")
    out = app.topic(options.out, value_serializer="bytes", key_serializer="bytes")
    job = Job(options.events, app.stop)
    stream = app.dataframe(source)
    stream = stream.apply(job.resolve, stateful=True, metadata=True)
    stream.filter(lambda value: value is not None).to_topic(out)
    # Returns when the last checkpoint is stored.
    app.run()
    job.meter.report(outcome(job.owners.items()))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
