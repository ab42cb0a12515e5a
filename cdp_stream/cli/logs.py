"""What a command that runs on says of itself, on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Final

import click
from aiokafka.errors import KafkaError

LEVELS: Final = click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
_CLIENTS: Final = ("aiokafka", "kafka", "faust", "mode")
_FETCHER: Final = "aiokafka.consumer.fetcher"


def log_to_stderr(who: str, level: str) -> None:
    """Log from this level on, each line with `who` says it; of the clients only what is a warning at least."""
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s {who} %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for client in _CLIENTS:
        logging.getLogger(client).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger(_FETCHER).addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """The client calls it an error when a partition has no leader yet, as each of a new topic; it asks again at once."""
    about = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(one, KafkaError) and one.retriable for one in about)
