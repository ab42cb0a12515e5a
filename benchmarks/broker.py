"""The broker of the benchmarks: one that is compiled in full, as a broker is that lives longer than a test."""

from __future__ import annotations

import os
from typing import Final

from cdp_stream.stream import broker
from cdp_stream.stream.broker import Broker

_JAVA_OPTIONS: Final = {"KAFKA_HEAP_OPTS": "-Xmx1g", "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC"}


def find_broker() -> Broker:
    """As the worker finds one. Raises BrokerUnavailable or SettingsError."""
    for name, options in _JAVA_OPTIONS.items():
        os.environ.setdefault(name, options)
    return broker.find_broker()
