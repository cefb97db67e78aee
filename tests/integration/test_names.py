"""How prefix and group name what is shared, and what becomes of the names that Ebbtide 0.1 gave."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerFenced
from redis import Redis

from enrichment.identity import change_id
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.partition_state import Status
from tests.integration.damage import empty
from tests.integration.harness import (
    Document,
    changes_of,
    check_sequences,
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

pytestmark = pytest.mark.real_kafka


def check_ids(changes: list[Document], namespace: str) -> None:
    """Every change has the id that the namespace gives it."""
    assert changes
    for change in changes:
        parts = change["customer_id"], change["life"], change["dimension"], change["sequence"]
        assert change["change_id"] == change_id(namespace, *parts)


async def test_groups_whose_names_run_together_do_not_fence_each_other(
    settings: Settings, unique_prefix: str
) -> None:
    """Prefix `u-` with group `a-b`, and prefix `u-a-` with group `b`."""
    one, other = (
        settings.model_copy(update={"topic_prefix": f"{unique_prefix}{more}", "group_id": group})
        for more, group in (("u-", "a-b"), ("u-a-", "b"))
    )
    assert one.joined_by_0_1 == other.joined_by_0_1
    for group in (one, other):
        await make_topics(group)
    async with running(one) as first:
        await until_idle(one, first)
        async with running(other) as second:
            await until_idle(other, second)
            for group, worker in ((one, first), (other, second), (one, first)):
                await produce(group, [record_of("purchases", order_of_now("c1", f"e{time.monotonic_ns()}"))])
                await until_idle(group, worker)
                assert worker.metrics.registry.get_sample_value("ebbtide_back_offs_total") is None
    assert first.states() == {}
    ids = [{change["change_id"] for change in await changes_of(group)} for group in (one, other)]
    assert not ids[0] & ids[1]
    check_ids(await changes_of(one), f"{one.topic_prefix}:{one.group_id}")


async def test_a_group_of_version_0_1_keeps_its_ids_and_its_last_worker_is_fenced(
    settings: Settings, redis_client: Redis
) -> None:
    """Whoever had a change has its id; nobody moves between treatment and control. Also after a restore."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order_of_now("c1", "e1"))])
    with mock.patch.object(Settings, "joined", Settings.joined_by_0_1):
        await run_to_the_end(settings)
    meta = PartitionKeys.of(settings, 0).meta
    redis_client.hdel(meta, "facts")
    redis_client.hset(meta, "owner_token", "0123456789abcdef")
    old = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"ebbtide-{settings.joined_by_0_1}-0",
    )
    await old.start()
    try:
        await old.begin_transaction()
        await old.send_and_wait(settings.topic("segment-changes"), b"of 0.1", partition=0)
        await produce(settings, [record_of("purchases", order_of_now("c2", "e2"))])
        await run_to_the_end(settings)
        with pytest.raises(ProducerFenced):
            await old.commit_transaction()
    finally:
        await old.client.close()
        await old.stop()
    assert b"of 0.1" not in {record.value for record in await read_topic(settings, "segment-changes")}
    empty(redis_client, settings)
    await produce(settings, [record_of("purchases", order_of_now("c3", "e3"))])
    await run_to_the_end(settings)
    changes = await changes_of(settings)
    assert {change["customer_id"] for change in changes} == {"c1", "c2", "c3"}
    check_sequences(changes)
    check_ids(changes, settings.joined_by_0_1)


async def test_a_worker_of_this_version_fences_the_old_name_only_once(
    settings: Settings, redis_client: Redis
) -> None:
    """It may be the present name of another group without a prefix, whose worker must be left in peace."""
    await make_topics(settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
    other = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"ebbtide-{settings.joined_by_0_1}-0",
    )
    async with other:
        await other.begin_transaction()
        await other.send_and_wait(settings.topic("segment-changes"), b"of another", partition=0)
        async with running(settings) as worker:
            await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.RUNNING, "running")
        await other.commit_transaction()
