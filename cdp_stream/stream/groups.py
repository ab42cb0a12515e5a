"""Consumer groups as the broker knows them: whether any worker is a member."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient

from cdp_stream.errors import BrokerUnavailable
from cdp_stream.stream.settings import Settings


async def members_of(settings: Settings, groups: Sequence[str]) -> dict[str, int]:
    """How many members each group has at this moment; 0 for one that the broker does not know."""
    admin = AIOKafkaAdminClient(**settings.aiokafka_options())
    await admin.start()
    try:
        # One group a request: the client reads the answer by an older layout, which holds for the first group only.
        answers = [answer for group in groups for answer in await admin.describe_consumer_groups([group])]
    finally:
        await admin.close()
    members = dict.fromkeys(groups, 0)
    for answer in answers:
        for error, group, _, _, _, found, *_ in answer.groups:
            if error:
                raise BrokerUnavailable(f"group {group}: the broker answered with error {error}")
            members[group] = len(found)
    return members
