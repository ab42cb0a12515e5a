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

from peers.job import ByKeys, Meter, arguments, outcome

PARTITIONS = 8
"""Those of the source: a Table needs as many."""


class TableKeys:
    """A Table's keys."""

    def __init__(self, table: Any) -> None:
        self.get = table.get
        self.set = table.__setitem__
        self.delete = table.__delitem__


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
    job, keys, meter = ByKeys(), TableKeys(table), Meter()

    async def resolve(stream: Any) -> None:
        async for event in stream.events():
            profile = job.resolve(event.value, keys, event.message.partition)
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
