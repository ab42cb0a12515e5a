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

from peers.job import ByKeys, Meter, arguments, outcome


class Job:
    """Counts the events, and resolves each over the state that it is given."""

    def __init__(self, events: int, stop: Callable[[], None]) -> None:
        """`stop` is called with the last of so many events; a count given to Quix leaves out what tells nothing."""
        self.meter = Meter()
        self.graph = ByKeys()
        self._events = events
        self._stop = stop

    def resolve(self, raw: bytes, _key: Any, _timestamp: int, _headers: Any, state: State) -> bytes | None:
        """The record to be told, or None for an event that names nobody."""
        self.meter.count(1)
        if self.meter.done == self._events:
            self._stop()
        profile = self.graph.resolve(raw, state, message_context().partition)
        return None if profile is None else b'{"profile":%d}' % profile


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
    job.meter.report(outcome(job.graph.owners.items()))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
