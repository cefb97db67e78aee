"""What the broker says of the time: the stamp of a record that nobody ever sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from streams.settings import Settings
from streams.worker.clients import RealClients
from streams.worker.clock_check import wall_clock_us
from streams.worker.publisher import Publisher, make_publisher
from tests.integration.damage import admin
from tests.integration.harness import make_topics, read_topic

pytestmark = pytest.mark.real_kafka
MILLISECOND_US = 1_000


@asynccontextmanager
async def publisher_of(settings: Settings) -> AsyncIterator[Publisher]:
    clients = RealClients(settings)
    publisher = make_publisher(settings, clients, 0, 10.0)
    await publisher.open()
    try:
        yield publisher
    finally:
        await publisher.close()
        await clients.redis.aclose()


async def test_the_broker_tells_the_time_and_nobody_sees_the_record(settings: Settings) -> None:
    """Between call and answer, as often as it is asked; oracle: this machine's clock, which is the broker's too."""
    await make_topics(settings)
    async with publisher_of(settings) as publisher:
        for _ in range(2):
            before_us = wall_clock_us()
            told_us = await publisher.broker_time_us()
            assert told_us is not None
            assert before_us - MILLISECOND_US <= told_us <= wall_clock_us()
    assert await read_topic(settings, "ebbtide-decisions") == []
    assert len(await read_topic(settings, "ebbtide-decisions", "read_uncommitted")) == 2


async def test_where_the_topic_has_the_producers_time_the_broker_tells_none(settings: Settings) -> None:
    """A producer's own stamp would only agree with itself."""
    await make_topics(settings)
    with admin(settings) as client:
        name = settings.topic("ebbtide-decisions")
        own_time = {"message.timestamp.type": "CreateTime"}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, own_time)])
    async with publisher_of(settings) as publisher:
        ends_s = time.monotonic() + 30  # the broker goes by a setting only some time after it has taken it
        while await publisher.broker_time_us() is not None:
            assert time.monotonic() < ends_s, "the broker still tells the time"
            await asyncio.sleep(0.1)


async def test_at_least_once_has_nothing_to_ask_with(settings: Settings) -> None:
    """Without transactions the record would stay."""
    await make_topics(settings)
    async with publisher_of(
        settings.model_copy(update={"processing_guarantee": "at_least_once"})
    ) as publisher:
        assert await publisher.broker_time_us() is None
    assert await read_topic(settings, "ebbtide-decisions", "read_uncommitted") == []
