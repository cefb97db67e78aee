"""Batches of every codec and size, some of them damaged byte by byte on the broker's disk: none holds up the others."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import partition_task, stuck
from streams.settings import Settings
from tests.integration.corpus import AFTERWARDS, document_of
from tests.integration.harness import (
    make_topics,
    read_topic,
    record_of,
    running,
    stored_profiles,
    until_idle,
)
from tests.integration.log_files import Damage, LogFile, flip_a_bit, give_unknown_codec
from tests.integration.test_unreadable import headers_of

pytestmark = pytest.mark.real_kafka

BATCHES = 150
DAMAGED_SHARE = 0.15
LIMIT_BYTES = 1_048_576
HEADER_BYTES = 61
FIRST_CHECKED_BYTE = 17
"""Those before it, a broker reads itself to find a batch: where they are wrong, it sends nothing."""


@dataclass
class Sent:
    """What one batch holds: customers, records that are refused, and how much that is before it is compressed."""

    customers: list[str] = field(default_factory=list)
    refused: int = 0
    size_bytes: int = 0


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "LOOKS_OVER_S", 0.3)
    monkeypatch.setattr(partition_task, "LOOK_AGAIN_S", 0.1)


def made_batch(rng: random.Random, batch: Any, number: int) -> Sent:
    """Orders, records that are refused, and at times one that is large once decompressed."""
    sent = Sent()

    def append(key: bytes | None, value: bytes) -> bool:
        headers = [("h", rng.randbytes(rng.choice((0, 5, 2_000))))] * rng.choice((0, 0, 1, 3))
        return batch.append(key=key, value=value, timestamp=None, headers=headers) is not None

    for at in range(rng.randint(1, 20)):
        customer = f"c{number}-{at}"
        record = record_of("purchases", document_of("purchases", customer, AFTERWARDS["purchases"]))
        assert record.value is not None
        if append(record.key, record.value):
            sent.customers.append(customer)
        if rng.random() < 0.2:
            key, value = rng.randbytes(rng.choice((0, 10, 5_000))), b"x" * rng.choice((0, 10, 60_000))
            sent.refused += append(rng.choice((None, key)), value)
    if rng.random() < 0.06:
        sent.refused += append(b"large", b" " * rng.choice((900_000, 1_200_000, 3_000_000)))
    sent.size_bytes = batch.size() - HEADER_BYTES
    return sent


def any_damage(rng: random.Random) -> Damage:
    """A wrong bit, an unknown codec, or some wrong bytes behind a batch's place and length."""

    def change_some_bytes(batch: bytearray) -> None:
        for at in rng.sample(range(FIRST_CHECKED_BYTE, len(batch)), rng.randint(1, 8)):
            batch[at] ^= rng.randint(1, 255)

    return rng.choice((flip_a_bit, give_unknown_codec, change_some_bytes))


async def test_every_batch_is_taken_or_becomes_one_dead_letter(settings: Settings, random_seed: int) -> None:
    """Oracle: the batches as they were sent, and which of them were damaged or too large."""
    rng = random.Random(f"batches/{random_seed}")
    settings = settings.model_copy(update={"decompressed_max_bytes": LIMIT_BYTES})
    await make_topics(settings)
    batches: dict[int, Sent] = {}
    async with AsyncExitStack() as stack:
        producers = [
            await stack.enter_async_context(
                AIOKafkaProducer(
                    bootstrap_servers=settings.kafka_bootstrap_servers,
                    compression_type=codec,
                    max_batch_size=3_500_000,
                    max_request_size=8_000_000,
                )
            )
            for codec in (None, "gzip", "snappy", "lz4", "zstd")
        ]
        for number in range(BATCHES):
            producer = rng.choice(producers)
            batch = producer.create_batch()
            sent = made_batch(rng, batch, number)
            answer = await (await producer.send_batch(batch, settings.topic("purchases"), partition=0))
            batches[answer.offset] = sent
    unreadable = {first for first, sent in batches.items() if sent.size_bytes > LIMIT_BYTES}
    log = LogFile(settings, "purchases")
    for batch in list(log.batches()):
        if rng.random() < DAMAGED_SHARE:
            log.damage_batch(batch, any_damage(rng))
            unreadable.add(batch.first)
    async with running(settings) as worker:
        await until_idle(settings, worker)
    readable = [sent for first, sent in batches.items() if first not in unreadable]
    letters = [headers_of(letter) for letter in await read_topic(settings, "dead-letters")]
    assert sorted(int(said["offset"]) for said in letters if said["exception"] == "Unreadable") == sorted(
        unreadable
    )
    assert sum(said["exception"] != "Unreadable" for said in letters) == sum(
        sent.refused for sent in readable
    )
    assert sorted(await stored_profiles(settings)) == sorted(c for sent in readable for c in sent.customers)
