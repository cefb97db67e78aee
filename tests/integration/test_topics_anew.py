"""A topic that was deleted and created anew is noticed, also once it holds more records than were taken before."""

from __future__ import annotations

import asyncio

import pytest
from redis import Redis

from streams.operations.partition_survey import PartitionHealth, survey
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.partition_state import Status
from tests.integration.damage import admin
from tests.integration.harness import (
    changes_of,
    make_topics,
    produce,
    records_of,
    run_to_the_end,
    running,
    until,
)
from tests.oracles.seeded_log import SeededLog, make_log

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    return make_log(random_seed, customers=10, days=100, events=200)


async def create_anew(settings: Settings, *names: str) -> None:
    """Delete topics and create them again."""

    def delete() -> None:
        with admin(settings) as client:
            client.delete_topics([settings.topic(name) for name in names])

    await asyncio.to_thread(delete)
    await make_topics(settings)


async def surveyed(settings: Settings) -> PartitionHealth:
    (standing,) = await survey(settings, settings.load_model())
    return standing


@pytest.mark.parametrize("is_refilled", [False, True], ids=["created anew", "and refilled"])
async def test_an_input_that_was_created_anew_stops_its_partitions(
    settings: Settings, log: SeededLog, is_refilled: bool
) -> None:
    """With the topic's name, for the worker and for the doctor; nothing more is published."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records)
    await run_to_the_end(settings)
    changes = await changes_of(settings)
    await create_anew(settings, "purchases")
    if is_refilled:
        more = [record for record in records if record.topic == "purchases"]
        await produce(settings, [*more, *more])
    expected = f"partition 0: stopped: {settings.topic('purchases')} was deleted and created anew"
    found = await surveyed(settings)
    assert found.status == "error"
    assert found.message.startswith(expected)
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        assert worker.states()[0].reason.startswith(expected)
    assert await changes_of(settings) == changes


async def test_decisions_that_were_created_anew_are_an_error_of_the_doctor_only(
    settings: Settings, log: SeededLog
) -> None:
    """Redis still holds what was decided, so that workers go on; a restore would miss it."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records[: len(records) // 2])
    await run_to_the_end(settings)
    await create_anew(settings, "ebbtide-decisions")
    await produce(settings, records[len(records) // 2 :])
    for _ in range(2):
        found = await surveyed(settings)
        assert found.status == "error"
        assert f"{settings.topic('ebbtide-decisions')} was deleted and created anew" in found.message
        await run_to_the_end(settings)


async def test_a_partition_that_is_older_than_the_ids_takes_those_that_it_finds(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """Nothing tells then whether a topic was created anew before."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    meta = PartitionKeys.of(settings, 0).meta
    kept = redis_client.hget(meta, "topic_ids")
    assert kept is not None
    redis_client.hdel(meta, "topic_ids")
    assert (await surveyed(settings)).status == "ok"
    await run_to_the_end(settings)
    assert redis_client.hget(meta, "topic_ids") == kept
