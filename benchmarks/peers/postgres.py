"""PostgreSQL: persons and their distinct ids in tables, a transaction a batch of 500, or one an event.

At least once: the transaction is committed before the position; a crash between repeats up to a batch, which changes
nothing in the tables and tells the resolutions again.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from peers.clients import Kafka
from peers.job import Batch, Meter, arguments, identifiers, outcome

TABLES = """
    create table person (id bigint generated always as identity primary key, merged_into bigint);
    create table distinct_id (value text primary key, person bigint not null);
    create index on distinct_id (person);
"""


def resolve_batch(connection: psycopg.Connection, events: Sequence[list[str]]) -> list[int | None]:
    """All of them in one transaction: what is known is read at once, and written at once."""
    wanted = sorted({identifier for found in events for identifier in found})
    with connection.transaction(), connection.cursor() as cursor:
        # The other identifiers of their persons come along: a merge moves them, too.
        cursor.execute(
            "select value, person from distinct_id where person in (select person from distinct_id where value = any(%s))",
            [wanted],
        )
        known = dict(cursor.fetchall())
        cursor.execute("select coalesce(max(id), 0) + 1 from person")
        row = cursor.fetchone()
        assert row is not None
        batch = Batch(known, row[0])
        profiles = [batch.resolve(found) for found in events]
        created = batch.next_profile - row[0]
        if created:
            cursor.execute("insert into person (merged_into) select null from generate_series(1, %s)", [created])
        if batch.mapped:
            cursor.execute(
                "insert into distinct_id (value, person) select * from unnest(%s::text[], %s::bigint[]) "
                "on conflict (value) do update set person = excluded.person",
                [list(batch.mapped), list(batch.mapped.values())],
            )
        if batch.merged:
            cursor.executemany(
                "update person set merged_into = %s where id = %s",
                [(into, absorbed) for absorbed, into in batch.merged.items()],
            )
    return profiles


def main() -> None:
    options = arguments(__doc__ or "")
    connection = psycopg.connect(options.address, autocommit=True)
    connection.execute(TABLES)
    kafka, meter = Kafka(options.kafka, options.source, options.out), Meter()
    at_once = 1 if options.guarantee == "transaction an event" else 1_000_000
    for messages in kafka.batches(options.events):
        events = [identifiers(message.value() or b"") for message in messages]
        profiles: list[int | None] = []
        for start in range(0, len(events), at_once):
            profiles += resolve_batch(connection, events[start : start + at_once])
        kafka.tell(profiles)
        meter.count(len(messages))
    meter.report(outcome(connection.execute("select value, person from distinct_id").fetchall()))
    kafka.close()


if __name__ == "__main__":
    main()
