from collections.abc import Mapping
from typing import Any

from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.event import RawRecord
from cdp_stream.model.time import Duration, Instant
from cdp_stream.stages.graph import GraphDraft
from cdp_stream.stages.records import OutputRecord

INTERFACE: int

class KnownEvents:
    def __init__(self, rules: IdentityRules, graph: GraphDraft, horizon: Duration, partitions: int) -> None: ...
    def begin(self, step: int, version: str, changes: Mapping[int, list[Any]], outputs: list[OutputRecord]) -> None: ...
    def take(self, record: RawRecord, now: Instant, index: int, number: int) -> int: ...
    def take_tally(self) -> dict[tuple[str, ...], int]: ...
