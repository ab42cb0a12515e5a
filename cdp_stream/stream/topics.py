"""Names and settings of our topics; created where absent, refused where they contradict."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from cdp_stream.config.topology import Topology
from cdp_stream.errors import BrokerUnavailable, SettingsError
from cdp_stream.stages.records import (
    AUDIENCE_CHANGES,
    DEAD_LETTERS,
    DESTINATION_PREFIX,
    LEDGER,
    PROFILE_CHANGES,
    SHIPMENTS,
    TRAIT_CHANGES,
)
from cdp_stream.stream.settings import Settings
from cdp_stream.stream.topic_ids import TopicInfo, describe_topics

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""Largest record batch of our topics: a step's changes to one partition, or a step's changelog."""
DELETE_RETENTION_MS = 7 * 24 * 3_600_000
"""How long a changelog still tells of deleted keys; state that was last written earlier than half of it is not used."""
_TOPIC_EXISTS = 36
_CREATED_WITHIN_S = 30
log = logging.getLogger("cdp_stream.topics")


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The real name of every topic of a space."""

    space: str
    prefix: str
    partitions: int
    sources: tuple[str, ...]
    destinations: tuple[tuple[str, str], ...]
    """Destination name and its topic."""

    @classmethod
    def of(cls, topology: Topology, settings: Settings, once: Mapping[str, str] | None = None) -> TopicNames:
        """The names for a topology under these settings. `once`: topics of destinations that were in force before."""
        prefix = settings.topic_prefix
        destinations = {**(once or {}), **{found.name: found.topic for found in topology.destinations}}
        return cls(
            topology.space,
            prefix,
            topology.partitions,
            tuple(prefix + source.topic for source in topology.sources if source.enabled),
            tuple((name, prefix + topic) for name, topic in destinations.items()),
        )

    def of_role(self, role: str) -> str:
        """`ledger` → `<prefix><space>.ledger`; `destinations/crm` → that destination's own topic."""
        if role.startswith(DESTINATION_PREFIX):
            name = role.removeprefix(DESTINATION_PREFIX)
            return dict(self.destinations)[name]
        return f"{self.prefix}{self.space}.{role}"

    def webhook_group(self, destination: str) -> str:
        """The consumer group of a destination's webhook connectors."""
        return self.of_role(f"webhook.{destination}")

    def webhook_dead_letters(self, destination: str) -> str:
        """What a destination's webhook would not take."""
        return self.of_role(f"webhook.{destination}.dead-letters")

    @property
    def identity_log(self) -> str:
        """The order of everything."""
        return self.of_role("identity-log")

    def changelog(self, stage: str) -> str:
        """The state of a stage, compacted."""
        return self.of_role(f"{stage}.changelog")

    def outputs(self, stage: str, partition: int) -> list[TopicPartition]:
        """Every partition that a stage partition writes to, its changelog (and the identity log) included."""
        every = range(self.partitions)
        if stage == "identity":
            roles = {LEDGER: every, PROFILE_CHANGES: every, DEAD_LETTERS: range(1)}
            extra = [TopicPartition(self.changelog(stage), 0), TopicPartition(self.identity_log, 0)]
        else:
            one = range(partition, partition + 1)
            destinations = {DESTINATION_PREFIX + name: one for name, _ in self.destinations}
            roles = {TRAIT_CHANGES: one, AUDIENCE_CHANGES: one, SHIPMENTS: every, **destinations}
            extra = [TopicPartition(self.changelog(stage), partition)]
        named = [TopicPartition(self.of_role(role), number) for role, numbers in roles.items() for number in numbers]
        return list(dict.fromkeys(named + extra))

    def ours(self) -> dict[str, tuple[int, dict[str, str]]]:
        """Every topic to create: partitions and settings."""
        forever = {"retention.ms": "-1", "retention.bytes": "-1"}
        compacted = {"cleanup.policy": "compact", "delete.retention.ms": str(DELETE_RETENTION_MS)}
        topics = {
            self.identity_log: (1, {**forever, "message.timestamp.type": "LogAppendTime"}),
            self.of_role(PROFILE_CHANGES): (self.partitions, forever),
            self.of_role(SHIPMENTS): (self.partitions, forever),
            self.of_role(LEDGER): (self.partitions, forever),
            self.of_role(TRAIT_CHANGES): (self.partitions, {}),
            self.of_role(AUDIENCE_CHANGES): (self.partitions, {}),
            self.of_role(DEAD_LETTERS): (1, {}),
            self.changelog("identity"): (1, compacted),
            self.changelog("profiles"): (self.partitions, compacted),
        }
        for _, topic in self.destinations:
            topics[topic] = (self.partitions, {})
        return topics


async def ensure_topics(admin: AIOKafkaAdminClient, names: TopicNames, replication_factor: int) -> None:
    """Create the space's topics that are absent.

    Raises SettingsError when one has another number of partitions, or settings with which it would forget or reorder.
    """
    await create_topics(admin, names.ours(), replication_factor)
    await _refuse_settings(admin, names)


async def create_topics(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, tuple[int, dict[str, str]]], replication_factor: int
) -> None:
    """Create what is absent: partitions and settings by name.

    Raises SettingsError when a topic has another number of partitions.
    """
    found = await describe_topics(admin, list(wanted))
    _refuse_contradictions(wanted, found)
    missing = [
        NewTopic(
            name,
            partitions,
            replication_factor,
            topic_configs={
                "max.message.bytes": str(MESSAGE_BYTES_MAX),
                "unclean.leader.election.enable": "false",
                "min.insync.replicas": str(min(2, replication_factor)),
                **settings,
            },
        )
        for name, (partitions, settings) in wanted.items()
        if name not in found
    ]
    if not missing:
        return
    response = await admin.create_topics(missing)
    for name, code, *rest in response.topic_errors:
        if code not in (0, _TOPIC_EXISTS):
            raise BrokerUnavailable(f"{name}: cannot be created, error {code} {rest[0] if rest else ''}")
    log.info("created %d topics: %s", len(missing), ", ".join(topic.name for topic in missing))
    for _ in range(_CREATED_WITHIN_S * 10):
        found = await describe_topics(admin, list(wanted))
        if len(found) == len(wanted):
            _refuse_contradictions(wanted, found)
            return
        await asyncio.sleep(0.1)
    raise BrokerUnavailable(f"topics were not there {_CREATED_WITHIN_S} s after they had been created")


async def _refuse_settings(admin: AIOKafkaAdminClient, names: TopicNames) -> None:
    # A source that is compacted loses records between two reads of the same slice.
    wanted = {topic: {"cleanup.policy": "delete"} for topic in names.sources}
    wanted |= {topic: settings for topic, (_, settings) in names.ours().items()}
    for topic, found in sorted((await _settings_of(admin, sorted(wanted))).items()):
        for name, value in wanted[topic].items():
            has = found.get(name, value)
            if name == "delete.retention.ms" and int(has) >= int(value):
                continue
            if has != value:
                raise SettingsError(
                    f"topic {topic} has {name}={has}, it must be {value}: change it, or remove the topic"
                )
        if topic not in names.sources and int(found["max.message.bytes"]) < MESSAGE_BYTES_MAX:
            log.warning(
                "topic %s has max.message.bytes=%s; a step may need up to %d, and stops the worker where it does",
                topic,
                found["max.message.bytes"],
                MESSAGE_BYTES_MAX,
            )


async def _settings_of(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """The settings of those of the topics that exist."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found = {}
    for response in await admin.describe_configs(asked):
        for error, _, _, topic, settings in response.resources:
            if not error:
                found[topic] = {name: value for name, value, *_ in settings}
    return found


def _refuse_contradictions(wanted: Mapping[str, tuple[int, dict[str, str]]], found: dict[str, TopicInfo]) -> None:
    for name, info in sorted(found.items()):
        partitions, _ = wanted[name]
        if info.partitions != partitions:
            raise SettingsError(
                f"topic {name} has {info.partitions} partitions, the topology needs {partitions}: "
                "set `partitions` to that number, choose another `space`, or remove the topic"
            )
