"""The broker of the benchmarks: one that is compiled in full, as a broker is that lives longer than a test."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from pathlib import Path
from typing import Final

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from workload import PARTITIONS, drop, make_topic

from cdp_stream.stream import broker
from cdp_stream.stream.broker import Broker

_JAVA_OPTIONS: Final = {"KAFKA_HEAP_OPTS": "-Xms1g -Xmx1g -Xmn640m", "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC"}
"""With room for the young: in the heap that the machine begins with by itself the broker stood still for 8 to 13 ms every 1.4 s
at 11,000 events a second, a hundredth of the time, which is what a P99 shows; now 17 ms every 7.5 s.
"""
_WARM_UP_ROUNDS: Final = 8_000
_LINE: Final = bytes(300)


def find_broker() -> Broker:
    """As the worker finds one; warmed up if it was started here. Raises BrokerUnavailable or SettingsError."""
    for name, options in _JAVA_OPTIONS.items():
        os.environ.setdefault(name, options)
    found = broker.find_broker()
    if not os.environ.get("CDP_STREAM_KAFKA"):
        try:
            asyncio.run(_warm_up(found.bootstrap))
        except BaseException:
            found.stop()
            raise
    return found


async def _warm_up(bootstrap: str) -> None:
    """Write and read until the broker has compiled what a worker has it do: for its first minute that takes up to half of
    a processor, which a broker that has run for a day has behind it.
    """
    print("warming the broker up …", file=sys.stderr)
    topic = f"warm-{secrets.token_hex(3)}"
    await make_topic(bootstrap, topic, PARTITIONS)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await consumer.start()
    await producer.start()
    reading = asyncio.create_task(_read(consumer))
    try:
        for _ in range(_WARM_UP_ROUNDS):
            await asyncio.gather(*[producer.send_and_wait(topic, _LINE, partition=one) for one in range(PARTITIONS)])
    finally:
        reading.cancel()
        await consumer.stop()
        await producer.stop()
        await drop(bootstrap, topic)


def compiler_s(bootstrap: str) -> float | None:
    """Seconds of a processor that the optimising compiler (C2) of the broker that listens there has had so far; None where
    that is no Java process of this machine.
    """
    port = int(bootstrap.rpartition(":")[2])
    listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    for pid in {one.pid for one in listening if one.laddr.port == port and one.pid is not None}:
        threads = [
            task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text().startswith("C2 ")
        ]
        if threads:
            return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9
    return None


async def _read(consumer: AIOKafkaConsumer) -> None:
    while True:
        await consumer.getmany(timeout_ms=1_000)
