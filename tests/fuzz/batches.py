"""Batches of every codec and size, and what they hold; and damages of a few bytes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.settings import Settings
from tests.integration.corpus import AFTERWARDS, document_of
from tests.integration.harness import record_of
from tests.integration.log_files import Damage, flip_a_bit, give_unknown_codec

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
HEADER_BYTES = 61
FIRST_CHECKED_BYTE = 17
"""Those before it, a broker reads itself to find a batch: where they are wrong, it sends nothing."""


@dataclass
class Sent:
    """What one batch holds: customers, records that are refused, and how much that is before it is compressed."""

    customers: list[str] = field(default_factory=list)
    refused: int = 0
    size_bytes: int = 0


@asynccontextmanager
async def producers(settings: Settings, max_batch_size: int) -> AsyncIterator[list[Any]]:
    """A producer of each codec."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                AIOKafkaProducer(
                    bootstrap_servers=settings.kafka_bootstrap_servers,
                    compression_type=codec,
                    max_batch_size=max_batch_size,
                    max_request_size=2 * max_batch_size,
                )
            )
            for codec in CODECS
        ]


def fill(rng: random.Random, batch: Any, number: int, large_bytes: int | None) -> Sent:
    """Orders of customers of their own, records that are refused, and, if given, one value of so many blanks."""
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
    if large_bytes is not None:
        blanks = b" " * large_bytes
        sent.refused += append(*rng.choice(((b"large", blanks), (blanks, b"large"))))
    sent.size_bytes = batch.size() - HEADER_BYTES
    return sent


def any_damage(rng: random.Random) -> Damage:
    """A wrong bit, an unknown codec, or some wrong bytes behind a batch's place and length."""

    def change_some_bytes(batch: bytearray) -> None:
        for at in rng.sample(range(FIRST_CHECKED_BYTE, len(batch)), rng.randint(1, 8)):
            batch[at] ^= rng.randint(1, 255)

    return rng.choice((flip_a_bit, give_unknown_codec, change_some_bytes))
