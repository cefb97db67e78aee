"""What a worker must be allowed to do where Kafka has an authorizer, and what of it an account may not."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.transaction import EndTxnRequest
from kafka.admin import ConfigResource, ConfigResourceType

from streams.errors import EbbtideError
from streams.kafka.access import questions
from streams.kafka.admin import admin_client
from streams.kafka.topics import TOPIC_REFUSED, TOPICS, TopicDefinition
from streams.kafka.transactional_ids import transactional_id, transactional_ids_prefix
from streams.settings import Settings

_NAMES: Final = {"READ": "Read", "WRITE": "Write", "DESCRIBE_CONFIGS": "DescribeConfigs"}
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
        described = admin.describe_topics([settings.topic(topic.name) for topic in TOPICS])
        held = {topic["name"]: _held(admin, topic) for topic in described}
    partitions = max((len(topic["partitions"]) for topic in described), default=0)
    lacking = []
    for topic in TOPICS:
        name = settings.topic(topic.name)
        found = held.get(name)
        rights = [] if found is None else [_NAMES[right] for right in needed_on(topic) if right not in found]
        if rights:
            lacking.append(f"{', '.join(rights)} on topic {name}")
    return partitions, lacking


def _held(admin: Any, topic: dict[str, Any]) -> Collection[str] | None:
    """What may be done with a topic; None where it is missing, or the broker does not tell."""
    if topic["error_code"] == TOPIC_REFUSED:
        # It may not be described; its settings are another right.
        resource = ConfigResource(ConfigResourceType.TOPIC, topic["name"])
        reported = admin.describe_configs([resource], config_filter="all").get("topic", {})
        return ["DESCRIBE_CONFIGS"] if reported.get(topic["name"]) else []
    # Nothing at all cannot be, of a topic that was described: some brokers say so instead of that they do not tell.
    return topic["authorized_operations"] or None


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
