"""What a worker must be allowed to do where Kafka has an authorizer, and what of it an account may not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.transaction import EndTxnRequest
from kafka.admin import ConfigResource, ConfigResourceType

from streams.errors import EbbtideError
from streams.kafka_access import questions
from streams.publisher import transactional_id, transactional_ids_prefix
from streams.settings import Settings
from streams.topics import TOPICS, TopicDefinition, admin_client

_NAMES: Final = {"READ": "Read", "WRITE": "Write", "DESCRIBE_CONFIGS": "DescribeConfigs"}
_TOPIC_REFUSED: Final = 29
_GROUP_REFUSED: Final = 30
_TRANSACTIONAL_ID_REFUSED: Final = 53
_NO_GENERATION: Final = -1
_NO_PRODUCER: Final = -1


def needed_on(topic: TopicDefinition) -> tuple[str, ...]:
    """The operations on a topic; each but the last brings Describe with it."""
    if topic.direction == "in":
        return ("READ", "DESCRIBE_CONFIGS")
    if topic.direction == "out":
        return ("WRITE", "DESCRIBE_CONFIGS")
    return ("READ", "WRITE", "DESCRIBE_CONFIGS")


def missing_rights(settings: Settings) -> list[str]:
    """Each resource on which a worker's account lacks a right, with those it lacks; topics that are missing left out.

    Nothing is said where a broker does not tell. Nothing is written or changed.

    Raises:
        EbbtideError: Kafka does not answer, or does not let us in.
    """
    partitions, lacking = _on_topics(settings)
    with ThreadPoolExecutor(1) as thread:  # the caller may have a running event loop of its own
        others = thread.submit(lambda: asyncio.run(_on_group_and_transactions(settings, partitions))).result()
    return lacking + others


def _on_topics(settings: Settings) -> tuple[int, list[str]]:
    """How many partitions the topics have at most, and the rights lacking."""
    with admin_client(settings) as admin:
        names = [settings.topic(topic.name) for topic in TOPICS]
        described = {topic["name"]: topic for topic in admin.describe_topics(names)}
        for topic in described.values():
            if topic["error_code"] == _TOPIC_REFUSED:
                topic["authorized_operations"] = _held_without_describe(admin, topic["name"])
    partitions = max((len(topic["partitions"]) for topic in described.values()), default=0)
    return partitions, list(_lacking(settings, described))


def _held_without_describe(admin: Any, name: str) -> list[str]:
    """What may be done with a topic that may not be described: at most that its settings are asked for."""
    reported = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
    return ["DESCRIBE_CONFIGS"] if reported.get("topic", {}).get(name) else []


def _lacking(settings: Settings, described: dict[str, Any]) -> Iterator[str]:
    for topic in TOPICS:
        name = settings.topic(topic.name)
        found = described.get(name, {})
        held = found.get("authorized_operations")
        lacking = [] if held is None else [_NAMES[right] for right in needed_on(topic) if right not in held]
        if lacking:
            yield f"{', '.join(lacking)} on topic {name}"


async def _on_group_and_transactions(settings: Settings, partitions: int) -> list[str]:
    """By questions that change nothing: of a member that there is not, and of a producer that there is not."""
    asked: list[Any] = [HeartbeatRequest(settings.group_id, _NO_GENERATION, "")]
    if settings.processing_guarantee == "exactly_once":
        asked += [
            EndTxnRequest(transactional_id(settings, partition), _NO_PRODUCER, 0, False)
            for partition in range(max(partitions, 1))
        ]
    codes = await _error_codes(settings, asked)
    lacking = []
    if codes[0] == _GROUP_REFUSED:
        lacking.append(f"Read on group {settings.group_id}")
    if _TRANSACTIONAL_ID_REFUSED in codes[1:]:
        lacking.append(f"Write on transactional ids that begin with {transactional_ids_prefix(settings)}")
    return lacking


async def _error_codes(settings: Settings, requests: Sequence[Any]) -> list[int | None]:
    """What a broker answers to each; None where it does not know such a request."""
    codes: list[int | None] = []
    try:
        async with questions(settings) as ask:
            for request in requests:
                try:
                    codes.append((await ask(request)).error_code)
                except KafkaError:
                    codes.append(None)
    except (KafkaError, OSError) as error:
        raise EbbtideError(f"no Kafka broker says what this account may do: {error}") from error
    return codes
