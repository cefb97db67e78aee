"""A worker whose account has exactly the rights that the documents list does all its work."""

from __future__ import annotations

from typing import Any

import pytest

from streams.settings import Settings
from streams.state.redis_check import rights
from tests.integration.damage import empty
from tests.integration.harness import (
    changes_of,
    make_topics,
    produce,
    records_of,
    run_to_the_end,
)
from tests.oracles.seeded_log import make_log
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka


async def test_the_rights_in_redis_are_enough(
    kafka: KafkaService, own_redis: OwnRedis, seeded_settings: Settings, random_seed: int
) -> None:
    """For a first start, for micro-batches, and for a restore."""
    with own_redis.client() as client:
        given = rights(seeded_settings)
        command: Any = client.execute_command
        command("ACL SETUSER", "ebbtide", "reset", "on", ">a-password", *given)
        url = own_redis.url.replace("redis://", "redis://ebbtide:a-password@")
        settings = seeded_settings.model_copy(update={"clock": "event", "redis_url": url})
        await make_topics(settings)
        await produce(settings, records_of(make_log(random_seed, customers=10, days=100, events=200)))
        await run_to_the_end(settings)
        assert await changes_of(settings)
        held = len(client.keys())
        empty(client, settings)
        await run_to_the_end(settings)
        assert len(client.keys()) == held
