"""Records that a command puts into an input topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.deadlines import STOP_TIMEOUT_S, stop_within
from streams.errors import EbbtideError, one_line
from streams.settings import Settings
from streams.topics import INPUT_MAX_MESSAGE_BYTES

TIMEOUT_S: Final = 20.0
"""For connecting, and for each record to be taken."""


@asynccontextmanager
async def log_writer(settings: Settings) -> AsyncIterator[Any]:
    """A started producer, whose records all in-sync replicas have when they are acknowledged.

    Raises:
        EbbtideError: Kafka does not answer or does not take a record, inside the block too.
    """
    where = f"{settings.kafka_bootstrap_servers} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS)"
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        client_id=f"ebbtide-{settings.group_id}-writer",
        acks="all",
        # A broker without transactions has no idempotent producers either.
        enable_idempotence=settings.processing_guarantee == "exactly_once",
        max_request_size=2 * INPUT_MAX_MESSAGE_BYTES,
        request_timeout_ms=int(TIMEOUT_S * 1_000),
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await producer.start()
        yield producer
    except (KafkaError, TimeoutError, OSError) as error:
        raise EbbtideError(f"Kafka at {where}: {one_line(error)}") from error
    finally:
        await stop_within(STOP_TIMEOUT_S, producer)
