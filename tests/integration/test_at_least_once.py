"""At-least-once on the embedded broker: nothing is lost, and what comes twice has the same `change_id`."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import pytest

from schemas.topics import INPUT_TOPICS
from streams.demo.embedded import EmbeddedBroker
from streams.replay.replay import NAMESPACE, replay
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.partition_state import Status
from streams.worker.publisher import AtLeastOncePublisher
from tests.integration.damage import PowerCutError
from tests.integration.harness import (
    Document,
    changes_of,
    check_sequences,
    make_settings,
    make_topics,
    produce,
    record_of,
    run_to_the_end,
    running,
    stored_profiles,
    until,
)
from tests.oracles.seeded_log import SeededLog, make_log
from tests.services import RedisService


@pytest.fixture
def settings(embedded_broker: EmbeddedBroker, redis_server: RedisService, unique_prefix: str) -> Settings:
    return make_settings(
        embedded_broker.bootstrap_servers,
        redis_server.url,
        unique_prefix,
        namespace=NAMESPACE,
        processing_guarantee="at_least_once",
        session_timeout_s=2,
        clock="event",
        batch_max_records=100,
    )


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    """In dollars only, for the built-in model; in order, so that replay is the oracle."""
    made = make_log(random_seed, customers=20, days=150, events=400, disorder=False, late_money=False)
    for topic in INPUT_TOPICS:
        for record in made[topic]:
            if "currency" in record:
                record["currency"] = "USD"
    return made


def unique(changes: list[Document]) -> list[Document]:
    """As a consumer that drops repeats by `change_id` sees them."""
    return list({change["change_id"]: change for change in changes}.values())


def expected(log: SeededLog, settings: Settings) -> Any:
    return replay(
        ((topic, orjson.dumps(record)) for topic in INPUT_TOPICS for record in log[topic]),
        settings.load_model(),
    )


def by_customer(changes: list[Any]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for change in changes:
        found.setdefault(change["customer_id"], []).append(orjson.loads(orjson.dumps(change)))
    return found


async def check(settings: Settings, log: SeededLog, changes: list[Document]) -> None:
    oracle = expected(log, settings)
    check_sequences(changes)
    assert by_customer(changes) == by_customer(oracle.results.changes)
    profiles = await stored_profiles(settings, oracle.end_us)
    assert profiles == {str(p["customer_id"]): orjson.loads(orjson.dumps(p)) for p in oracle.profiles}


@pytest.mark.parametrize(
    "published",
    [False, pytest.param(True, marks=pytest.mark.deep)],
    ids=["before publishing", "after publishing"],
)
async def test_a_crash_loses_no_change_and_repeats_have_the_same_id(
    settings: Settings,
    log: SeededLog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    published: bool,
) -> None:
    """A batch that is not known to be published is, whether or not it had been; dropping repeats gives replay's."""
    await make_topics(settings)
    await produce(settings, [record_of(topic, record) for topic in INPUT_TOPICS for record in log[topic]])
    publish = AtLeastOncePublisher.publish

    async def power_cut(self: AtLeastOncePublisher, records: Any, checkpoint: Any) -> None:
        if checkpoint.batch_id != 3 or published:
            await publish(self, records, checkpoint)
        if checkpoint.batch_id == 3:
            raise PowerCutError

    with monkeypatch.context() as broken:
        broken.setattr(AtLeastOncePublisher, "publish", power_cut)
        async with running(settings) as worker:
            await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "dead")
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "records published again" in caplog.text
    changes = await changes_of(settings)
    assert (len(changes) > len(unique(changes))) == published
    await check(settings, log, unique(changes))


async def test_a_restart_in_good_order_repeats_nothing(settings: Settings, log: SeededLog) -> None:
    """Redis alone knows how far the worker was, and that Kafka has acknowledged every record of the last batch."""
    await make_topics(settings)
    await produce(settings, [record_of(topic, record) for topic in INPUT_TOPICS for record in log[topic]])
    await run_to_the_end(settings)
    before = await changes_of(settings)
    async with running(settings) as worker:
        await until(lambda: worker.is_idle, "idle")
        assert worker.states()[0].outcomes.total() == 0
    assert await changes_of(settings) == before
    await check(settings, log, before)


async def test_an_interrupted_restore_is_not_gone_on_with(
    settings: Settings, log: SeededLog, redis_server: RedisService
) -> None:
    """Half of the states are there, and without offsets in Kafka nothing says up to where they go."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", record) for record in log["purchases"]])
    await run_to_the_end(settings)
    with redis_server.client() as redis:
        redis.hset(PartitionKeys.of(settings, 0).meta, "status", "rebuilding")
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        assert "its restore was interrupted, and only exactly_once can finish it" in worker.states()[0].reason
