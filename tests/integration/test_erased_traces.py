"""What is left in Redis of a customer who was erased: nothing."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis import Redis

from streams.demo.embedded import EmbeddedBroker
from streams.operations.erasure import erase
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.publisher import AtLeastOncePublisher, TransactionalPublisher
from tests.integration.damage import PowerCutError, power_cut
from tests.integration.harness import (
    make_settings,
    make_topics,
    order_of_now,
    produce,
    read_topic,
    record_of,
    run_to_the_end,
    running,
    until,
    until_idle,
)
from tests.services import KafkaService, OwnRedis

CUSTOMER, OTHER = "who-wants-to-be-forgotten", "who-wants-to-stay"


@pytest.fixture(
    params=[pytest.param("exactly_once", marks=pytest.mark.real_kafka), "at_least_once"],
)
def settings(request: pytest.FixtureRequest, own_redis: OwnRedis, unique_prefix: str) -> Settings:
    """By either guarantee, with a Redis of its own, of which every key is looked at."""
    if request.param == "exactly_once":
        kafka: KafkaService = request.getfixturevalue("kafka")
        return make_settings(kafka.bootstrap_servers, own_redis.url, unique_prefix)
    broker: EmbeddedBroker = request.getfixturevalue("embedded_broker")
    chosen: dict[str, Any] = {"processing_guarantee": "at_least_once", "allow_create_time": True}
    return make_settings(broker.bootstrap_servers, own_redis.url, unique_prefix, **chosen)


def keys_that_tell_of(redis: Redis, customer: str) -> list[bytes]:
    """Every key of Redis whose name or contents hold the id."""
    client: Any = redis
    looked = {b"string": client.get, b"hash": client.hgetall}
    found = []
    for key in client.scan_iter():
        kind = client.type(key)
        held = client.zrange(key, 0, -1, withscores=True) if kind == b"zset" else looked[kind](key)
        if customer.encode() in key or customer.encode() in repr(held).encode():
            found.append(key)
    return found


async def test_nothing_in_redis_tells_of_a_customer_who_was_erased(
    settings: Settings, own_redis: OwnRedis
) -> None:
    """While nothing else comes: the micro-batch that erased them is the last one, and its records held their id."""
    await make_topics(settings)
    await produce(
        settings, [record_of("purchases", order_of_now(name, f"e-{name}")) for name in (CUSTOMER, OTHER)]
    )
    with own_redis.client() as redis:
        async with running(settings) as worker:
            await until_idle(settings, worker)
            assert len(keys_that_tell_of(redis, CUSTOMER)) == 2, (
                "the state, and the day on which they are due"
            )
            await erase(settings, CUSTOMER, int(time.time() * 1_000_000))
            await until(lambda: not keys_that_tell_of(redis, CUSTOMER), "nothing tells of them", 60.0)
            await until_idle(settings, worker)
        assert keys_that_tell_of(redis, CUSTOMER) == []
        assert len(keys_that_tell_of(redis, OTHER)) == 2
    assert [record.value for record in await read_topic(settings, "customer-profiles")].count(None) == 1


async def test_what_a_dead_worker_left_is_published_and_then_emptied(
    settings: Settings, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between persisting the erasure and publishing it: its outbox is all that tells of the customer."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order_of_now(CUSTOMER, "e1"))])
    await run_to_the_end(settings)
    await erase(settings, CUSTOMER, int(time.time() * 1_000_000))
    publish = AtLeastOncePublisher.publish

    async def until_then(self: AtLeastOncePublisher, records: Any, checkpoint: Any) -> None:
        if any(record.value is None for record in records):
            raise PowerCutError
        await publish(self, records, checkpoint)

    with own_redis.client() as redis:
        batch = int(redis.hget(PartitionKeys.of(settings, 0).meta, "step"))
        with monkeypatch.context() as broken, power_cut(batch + 1):
            broken.setattr(AtLeastOncePublisher, "publish", until_then)
            async with running(settings) as worker:
                await until(
                    lambda: bool(worker.tasks) and worker.states()[0].reason != "", "stopped by the power cut"
                )
        assert keys_that_tell_of(redis, CUSTOMER) == [PartitionKeys.of(settings, 0).outbox.encode()]
        await run_to_the_end(settings)
        assert keys_that_tell_of(redis, CUSTOMER) == []
    assert [record.value for record in await read_topic(settings, "customer-profiles")].count(None) == 1


async def test_an_outbox_is_not_emptied_before_its_publication_is_known(
    settings: Settings, own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publication that fails leaves it to the next recovery."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order_of_now(CUSTOMER, "e1"))])
    publisher = (
        TransactionalPublisher if settings.processing_guarantee == "exactly_once" else AtLeastOncePublisher
    )
    publish, failed = publisher.publish, list[int]()

    async def fails_once(self: Any, records: Any, checkpoint: Any) -> None:
        if records and checkpoint.batch_id > 0 and not failed:
            failed.append(len(records))
            with own_redis.client() as redis:
                assert PartitionKeys.of(settings, 0).outbox.encode() in keys_that_tell_of(redis, CUSTOMER)
            raise TimeoutError
        await publish(self, records, checkpoint)

    monkeypatch.setattr(publisher, "publish", fails_once)
    await run_to_the_end(settings)
    assert failed
    changes = [record.key for record in await read_topic(settings, "segment-changes")]
    assert changes == [CUSTOMER.encode()] * 3
