"""A plain Faust agent with a Table over RocksDB and its changelog, as its documentation shows it; at least once.

The Table is written key by key, beside the changelog and the committed offset: after a crash it is ahead of the offset,
and what is repeated finds its own effects.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import faust

from peers.job import Meter, arguments, identifiers, outcome

PARTITIONS = 8
"""Those of the source: a Table needs as many."""


class Job:
    """Resolves events over a Table, and keeps the owners aside for the hash."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.owners: dict[str, str] = {}

    def resolve(self, raw: bytes, partition: int) -> int | None:
        """The event's profile, or None if it names nobody."""
        found, table = identifiers(raw), self._table
        if not found:
            return None
        known = {identifier: table.get(f"o:{identifier}") for identifier in found}
        profiles = sorted({profile for profile in known.values() if profile is not None})
        if profiles:
            survivor = profiles[0]
        else:
            survivor = table.get("next") or 0
            table["next"] = survivor + 1
        new = [identifier for identifier, profile in known.items() if profile != survivor]
        if new:
            members = table.get(f"m:{survivor}") or []
            for absorbed in profiles[1:]:
                moved = table.get(f"m:{absorbed}") or []
                del table[f"m:{absorbed}"]
                new += [identifier for identifier in moved if identifier not in known]
            for identifier in new:
                table[f"o:{identifier}"] = survivor
                self.owners[identifier] = f"{partition}-{survivor}"
            table[f"m:{survivor}"] = members + new
        return int(survivor)


def main() -> None:
    options = arguments(__doc__ or "")
    folder = tempfile.mkdtemp()
    app = faust.App(
        f"{options.out}.app",
        broker=f"kafka://{options.kafka}",
        store="rocksdb://?driver=rocksdict",
        datadir=Path(folder),
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        autodiscover=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    source = app.topic(options.source, key_serializer="raw", value_serializer="raw")
    out = app.topic(options.out, key_serializer="raw", value_serializer="raw")
    table = app.Table("graph", partitions=PARTITIONS, key_type=str)
    job, meter = Job(table), Meter()

    async def resolve(stream: Any) -> None:
        async for event in stream.events():
            profile = job.resolve(event.value, event.message.partition)
            if profile is not None:
                await out.send(key=b"%d" % profile, value=b'{"profile":%d}' % profile)
            meter.count(1)
            if meter.done == options.events:
                await app.producer.flush()
                meter.report(outcome(job.owners.items()))
                sys.stdout.flush()
                # Leaving the group takes Faust seconds, which are nobody's question here.
                os._exit(0)

    app.agent(source)(resolve)
    logging.disable(logging.WARNING)
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()


if __name__ == "__main__":
    main()
