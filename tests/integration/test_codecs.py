"""Whatever codec a producer or a topic compresses with, every topic can be read by whoever reads it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from streams.kafka.topics import TopicDefinition
from streams.operations.dead_letters import Chosen, dead_letters
from streams.settings import Settings
from tests.integration.corpus import AFTERWARDS, document_of
from tests.integration.damage import empty
from tests.integration.harness import (
    Record,
    make_topics,
    produce,
    record_of,
    run_to_the_end,
    stored_profiles,
)

pytestmark = pytest.mark.real_kafka

CODECS = {"purchases": "zstd", "dead-letters": "lz4", "ebbtide-decisions": "snappy"}


def some_orders(count: int) -> list[Record]:
    """One order of each of so many customers."""
    documents = (document_of("purchases", f"c-{number}", AFTERWARDS["purchases"]) for number in range(count))
    return [record_of("purchases", document) for document in documents]


async def test_batches_of_every_codec_are_read(settings: Settings) -> None:
    """As producers compress them, whatever the topic says."""
    await make_topics(settings)
    orders = some_orders(40)
    for number, codec in enumerate(("gzip", "snappy", "lz4", "zstd")):
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.kafka_bootstrap_servers, compression_type=codec, linger_ms=50
        )
        async with producer:
            sent = [
                await producer.send(settings.topic(topic), value, key, partition)
                for topic, key, value, partition in orders[10 * number : 10 * (number + 1)]
            ]
            await asyncio.gather(*sent)
    await run_to_the_end(settings)
    assert len(await stored_profiles(settings)) == 40


async def test_topics_that_compress_are_read_by_all(
    settings: Settings, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs by the worker, dead letters by `dlq list`, and decisions by the restore of a Redis that lost all."""
    made_with = TopicDefinition.settings

    def compressing(self: TopicDefinition, dead_letter_max_bytes: int) -> dict[str, str]:
        codec = CODECS.get(self.name, "producer")
        return {**made_with(self, dead_letter_max_bytes), "compression.type": codec}

    monkeypatch.setattr(TopicDefinition, "settings", compressing)
    await make_topics(settings)
    records = some_orders(20)
    bad = [record._replace(value=b"[" * 2_000) for record in records[:3]]
    await produce(settings, [*records, *bad])
    await run_to_the_end(settings)
    before = await stored_profiles(settings)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == before
    assert len(before) == 20
    letters = [letter async for letter in dead_letters(settings, Chosen())]
    assert [letter.value for letter in letters] == [b"[" * 2_000] * 3
