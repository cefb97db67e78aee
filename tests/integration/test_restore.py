"""Redis that lost writes, on real Kafka: restored from the inputs and the decisions, as if nothing had happened."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from redis import Redis

from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS
from streams.replay.replay import Replayed, replay
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.store import StateStore
from streams.worker.clients import RealClients
from streams.worker.partition_state import Status
from streams.worker.restoring.restore import SLICE_RECORDS, read_between
from tests.integration.damage import PowerCutError, delete_records, empty, restore, snapshot
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    check_sequences,
    make_topics,
    produce,
    read_documents,
    read_topic,
    record_of,
    run_to_the_end,
    running,
    stored_profiles,
    until,
    until_idle,
)
from tests.oracles.seeded_log import SeededLog, make_log
from tests.services import KafkaService, OwnRedis

pytestmark = pytest.mark.real_kafka
Damage = Callable[[Redis, Settings], None]


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    """In order, so that replay is the oracle of changes too; many customers are silent for long."""
    return make_log(random_seed, customers=80, days=300, events=900, disorder=False, late_money=False)


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    """By the event clock, where midnights pass and time demotes."""
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


def in_parts(log: SeededLog, *shares: float) -> list[list[Record]]:
    """The records in parts by time, which end after these shares of all; each part comes behind the last."""
    times = sorted(parse_timestamp(record["occurred_at"]) for topic in INPUT_TOPICS for record in log[topic])
    ends = [times[int(len(times) * share)] for share in shares]
    parts: list[list[Record]] = [[] for _ in (*shares, 1.0)]
    for topic in INPUT_TOPICS:
        for record in log[topic]:
            at_us = parse_timestamp(record["occurred_at"])
            parts[sum(at_us > end for end in ends)].append(record_of(topic, record))
    return parts


def replayed(log: SeededLog, model: Model) -> Replayed:
    return replay(((topic, orjson.dumps(record)) for topic in INPUT_TOPICS for record in log[topic]), model)


def lost_everything(redis: Redis, settings: Settings) -> None:
    """As after FLUSHDB."""
    empty(redis, settings)


def another_token(redis: Redis, settings: Settings) -> None:
    """A failover lost a micro-batch, and another of the same number was written that Kafka does not know."""
    redis.hset(PartitionKeys.of(settings, 0).meta, "token", "0" * 16)


def lost_last_batches(taken: dict[bytes, bytes]) -> Damage:
    """Redis is what it was some micro-batches ago."""
    return lambda redis, settings: restore(redis, settings, taken)


@pytest.mark.parametrize(
    "loss",
    ["everything", *(pytest.param(loss, marks=pytest.mark.deep) for loss in ("last micro-batches", "token"))],
)
async def test_after_a_restore_everything_goes_on_as_if_nothing_had_been_lost(
    settings: Settings,
    log: SeededLog,
    redis_client: Redis,
    loss: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Profiles are the same bytes, nothing is published anew, and what comes afterwards is what replay says."""
    await make_topics(settings)
    first, second, then = in_parts(log, 0.3, 0.65)
    await produce(settings, first)
    await run_to_the_end(settings)
    early = snapshot(redis_client, settings)
    await produce(settings, second)
    await run_to_the_end(settings)
    profiles = await stored_profiles(settings)
    published = {name: await _values(settings, name) for name in ("segment-changes", "reactivation-triggers")}
    damage = {
        "everything": lost_everything,
        "last micro-batches": lost_last_batches(early),
        "token": another_token,
    }
    damage[loss](redis_client, settings)
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "recovery: Redis has lost writes" in caplog.text
    assert "restored" in caplog.text
    assert await stored_profiles(settings) == profiles
    for name, values in published.items():
        assert await _values(settings, name) == values, name
    await produce(settings, then)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        checkpoint = worker.states()[0].checkpoint
    assert checkpoint is not None
    oracle = replayed(log, settings.load_model())
    changes = await changes_of(settings)
    check_sequences(changes)
    assert _by_customer(changes) == _by_customer(oracle.results.changes)
    triggers = await read_documents(settings, "reactivation-triggers")
    assert _by_customer(triggers) == _by_customer(oracle.results.triggers)
    final = await stored_profiles(settings, oracle.end_us)
    assert final == {str(profile["customer_id"]): _plain(profile) for profile in oracle.profiles}


def _by_customer(documents: list[Any]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for document in documents:
        found.setdefault(document["customer_id"], []).append(_plain(document))
    return found


def _plain(document: Any) -> Document:
    """As it is after JSON."""
    plain: Document = orjson.loads(orjson.dumps(document))
    return plain


async def _values(settings: Settings, name: str) -> list[bytes | None]:
    return [record.value for record in await read_topic(settings, name)]


async def test_by_the_wall_clock_a_restore_keeps_profiles_and_publishes_nothing(
    seeded_settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """One topic after the other, as the wall clock takes them; everyone is as of today's midnight."""
    settings = seeded_settings
    await make_topics(settings)
    async with running(settings) as worker:
        for topic in INPUT_TOPICS:
            await produce(settings, [record_of(topic, record) for record in log[topic]])
            await until_idle(settings, worker)
    profiles, changes = await stored_profiles(settings), await _values(settings, "segment-changes")
    states = snapshot(redis_client, settings)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == profiles
    assert await _values(settings, "segment-changes") == changes
    assert snapshot(redis_client, settings).keys() == states.keys()


def order(number: int, day: str) -> Document:
    """An order of customer `c`."""
    return {
        "event_id": f"e{number}",
        "customer_id": "c",
        "occurred_at": f"{day}T12:00:00Z",
        "kind": "order",
        "order_id": f"o{number}",
        "currency": "USD",
        "total": "10.00",
    }


ERASURE = {"event_id": "x", "customer_id": "c", "occurred_at": "2025-01-10T12:00:00Z", "kind": "erasure"}


async def test_erased_customers_stay_erased_after_a_restore(settings: Settings, redis_client: Redis) -> None:
    """Neither their old records in the inputs nor late ones come back; a new life goes on where it was."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order(1, "2025-01-09")), record_of("consents", ERASURE)])
    await run_to_the_end(settings)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == {}
    late, later = (
        record_of("purchases", order(2, "2025-01-08")),
        record_of("purchases", order(3, "2025-01-11")),
    )
    await produce(settings, [late, later])
    await run_to_the_end(settings)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert (await stored_profiles(settings))["c"]["aggregates"]["order_count"] == 1
    changes = await changes_of(settings)
    check_sequences(changes)
    assert {change["life"] for change in changes} == {0, 1}


async def test_what_an_erasure_deleted_stays_deleted_although_it_is_dated_after_it(
    seeded_settings: Settings, redis_client: Redis
) -> None:
    """An erasure that comes after a record dated later deletes it too, and a restore does not bring it back."""
    settings = seeded_settings
    await make_topics(settings)
    async with running(settings) as worker:
        await produce(settings, [record_of("purchases", order(1, "2025-01-11"))])
        await until_idle(settings, worker)
        await produce(settings, [record_of("consents", ERASURE)])
        await until_idle(settings, worker)
    assert await stored_profiles(settings) == {}
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == {}


async def test_what_the_event_clock_took_after_an_erasure_stays_although_kafka_took_it_before(
    settings: Settings, redis_client: Redis
) -> None:
    """As in a backlog that was loaded topic by topic: the order is dated after the erasure, which was loaded last."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order(1, "2025-01-11"))])
    await asyncio.sleep(0.01)  # Kafka's stamps are whole milliseconds
    await produce(settings, [record_of("consents", ERASURE)])
    await run_to_the_end(settings)
    before = await stored_profiles(settings)
    assert before["c"]["aggregates"]["order_count"] == 1
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == before


async def test_an_erasure_that_is_sent_again_deletes_nothing_in_a_restore_either(
    seeded_settings: Settings, redis_client: Redis
) -> None:
    """What the customer did between the erasure and its repeat is theirs, live and restored."""
    settings = seeded_settings
    await make_topics(settings)
    async with running(settings) as worker:
        for record in (
            record_of("consents", ERASURE),
            record_of("purchases", order(1, "2025-01-11")),
            record_of("consents", ERASURE),
        ):
            await produce(settings, [record])
            await until_idle(settings, worker)
    before = await stored_profiles(settings)
    assert before["c"]["aggregates"]["order_count"] == 1
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == before


async def test_a_crash_in_a_restore_is_followed_by_another_restore(
    settings: Settings,
    log: SeededLog,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A partition whose states are half written says so, and is not gone on with."""
    await make_topics(settings)
    await produce(settings, in_parts(log, 0.65)[0])
    await run_to_the_end(settings)
    profiles, changes = await stored_profiles(settings), await changes_of(settings)
    empty(redis_client, settings)
    put = StateStore.put_restored

    async def half(self: StateStore, states: list[Any], *more: Any) -> None:
        await put(self, states[: len(states) // 2], *more)
        raise PowerCutError

    with monkeypatch.context() as broken:
        broken.setattr(StateStore, "put_restored", half)
        async with running(settings) as worker:
            await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "dead")
    assert redis_client.hget(PartitionKeys.of(settings, 0).meta, "status") == b"rebuilding"
    caplog.clear()
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    for said in (
        "recovery: Redis has lost writes",
        "restoring Redis up to micro-batch",
        "restored",
        "goes on from micro-batch",
    ):
        assert said in caplog.text
    assert await stored_profiles(settings) == profiles
    assert await changes_of(settings) == changes


async def test_a_log_that_no_longer_reaches_back_is_not_restored_from_unless_told(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """The reason names the topic, its first offset, and the setting that takes what is left."""
    await make_topics(settings)
    await produce(settings, in_parts(log, 0.65)[0])
    await run_to_the_end(settings)
    changes = await changes_of(settings)
    await delete_records(settings, {"purchases": 7})
    empty(redis_client, settings)
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        reason = worker.states()[0].reason
    assert f"{settings.topic('purchases')} begins at offset 7" in reason
    assert "EBBTIDE_RESTORE_FROM_SHORT_LOG=true" in reason
    told = settings.model_copy(update={"restore_from_short_log": True})
    async with running(told) as worker:
        await until_idle(told, worker)
    assert await stored_profiles(settings)
    check_sequences(await changes_of(settings))
    assert (await changes_of(settings))[: len(changes)] == changes


async def test_a_redis_that_comes_back_empty_under_a_running_worker_is_restored(
    kafka: KafkaService, own_redis: OwnRedis, settings: Settings, log: SeededLog
) -> None:
    """The worker backs off while Redis is away, and goes on by itself when it is back."""
    settings = settings.model_copy(update={"redis_url": own_redis.url})
    await make_topics(settings)
    first, then = in_parts(log, 0.65)
    await produce(settings, first)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        own_redis.kill()
        await produce(settings, then)
        await until(lambda: worker.states()[0].status is Status.BACKING_OFF, "backing off")
        own_redis.start()
        await until_idle(settings, worker)
    oracle = replayed(log, settings.load_model())
    changes = await changes_of(settings)
    check_sequences(changes)
    assert _by_customer(changes) == _by_customer(oracle.results.changes)
    final = await stored_profiles(settings, oracle.end_us)
    assert final == {str(profile["customer_id"]): _plain(profile) for profile in oracle.profiles}


async def test_a_restore_reads_in_slices_between_which_others_get_their_turn(settings: Settings) -> None:
    """Else a member of the group that restores much in few fetches sends no heartbeat for long."""
    await make_topics(settings)
    records = 10 * SLICE_RECORDS
    order = record_of("purchases", _order("ann", "2024-05-01T12:00:00Z"))
    await produce(settings, itertools.repeat(order, records))
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    clients, sizes, turns_between = RealClients(settings), [], []
    task = asyncio.create_task(other())
    async for slice_ in read_between(clients, TopicPartition(settings.topic("purchases"), 0), 0, records):
        sizes.append(len(slice_))
        turns_between.append(turns)
    task.cancel()
    await clients.redis.aclose()
    assert sum(sizes) == records
    assert max(sizes) <= SLICE_RECORDS
    assert all(later > earlier for earlier, later in itertools.pairwise(turns_between))


async def test_a_restore_brings_back_nobody_who_was_erased(settings: Settings, redis_client: Redis) -> None:
    """An erasure deletes what had come before it, also what is dated after it; a life begun since then stays."""
    wall = settings.model_copy(update={"clock": "wall"})
    await make_topics(wall)

    def order(customer_id: str, minute: int) -> Record:
        return record_of("purchases", _order(customer_id, f"2024-05-01T12:{minute:02d}:00Z"))

    await produce(wall, [order(name, minute) for name in ("ann", "bob", "eve") for minute in (0, 10)])
    await run_to_the_end(wall)
    await produce(
        wall, [record_of("consents", _erasure(name, "2024-05-01T12:05:00Z")) for name in ("ann", "eve")]
    )
    await run_to_the_end(wall)
    await produce(wall, [order("ann", 20)])
    await run_to_the_end(wall)
    profiles = await stored_profiles(wall)
    published = await _values(wall, "segment-changes")
    assert sorted(profiles) == ["ann", "bob"]
    assert profiles["ann"]["aggregates"]["order_count"] == 1
    lost_everything(redis_client, wall)
    await run_to_the_end(wall)
    assert await stored_profiles(wall) == profiles
    assert await _values(wall, "segment-changes") == published


def _order(customer_id: str, occurred_at: str) -> Document:
    return {
        "event_id": f"{customer_id}-{occurred_at}",
        "customer_id": customer_id,
        "occurred_at": occurred_at,
        "kind": "order",
        "order_id": occurred_at,
        "currency": "USD",
        "total": "20.00",
    }


def _erasure(customer_id: str, occurred_at: str) -> Document:
    return {"event_id": "erase", "customer_id": customer_id, "occurred_at": occurred_at, "kind": "erasure"}
