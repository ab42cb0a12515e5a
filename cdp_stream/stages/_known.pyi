from collections.abc import Callable, Mapping
from typing import Any

from cdp_stream.identity.rules import IdentityRules
from cdp_stream.model.ids import ExternalId, ProfileId
from cdp_stream.model.time import Duration, Instant

class KnownEvents:
    def __init__(
        self,
        rules: IdentityRules,
        owners: dict[ExternalId, ProfileId],
        first_seen: Callable[[str, Instant, Duration], bool],
        horizon: Duration,
        partitions: int,
    ) -> None: ...
    def take(
        self, raw: bytes, timestamp: Instant, now: Instant, index: int, record: int, changes: Mapping[int, list[Any]]
    ) -> int: ...
    def take_tally(self) -> dict[tuple[str, ...], int]: ...
