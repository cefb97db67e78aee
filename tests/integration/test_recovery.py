"""Taking over a partition on real Kafka and Redis: each finding of the comparison, and what is done about it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from enrichment.model import Model
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.app import readiness
from streams.kafka.transactional_ids import transactional_id
from streams.replay.replay import Replayed, replay
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.store import StateStore
from streams.worker.clock import EventClock
from streams.worker.partition_state import Status
from streams.worker.partition_task import PartitionTask
from streams.worker.publisher import TransactionalPublisher
from streams.worker.runtime import Runtime
from tests.integration.damage import (
    PowerCutError,
    delete_records,
    forget_offsets,
    power_cut,
    snapshot,
)
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    check_sequences,
    make_topics,
    partition_of,
    produce,
    read_committed_checkpoint,
    read_topic,
    real_clients,
    record_of,
    records_of,
    run_to_the_end,
    running,
    until,
    until_idle,
)
from tests.oracles.seeded_log import SeededLog, make_log

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    """Small micro-batches, so that even a small log takes several."""
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    """In order, so that replay is the oracle of changes too."""
    return make_log(random_seed, customers=20, days=200, events=500, disorder=False, late_money=False)


def replayed(log: SeededLog, model: Model) -> Replayed:
    return replay(((topic, orjson.dumps(record)) for topic in INPUT_TOPICS for record in log[topic]), model)


def before_the_last_midnight(changes: Sequence[Any]) -> dict[str, Document]:
    """Changes by id, without those that a log's very last days bring by time alone."""
    last = max(change["as_of"] for change in changes)
    return {change["change_id"]: change for change in changes if change["as_of"] < last}


async def test_a_restart_in_good_order_goes_on_and_publishes_nothing_again(
    settings: Settings, log: SeededLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis and Kafka are at the same micro-batch with the same token."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    before = [record.value for record in await read_topic(settings, "segment-changes")]
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "recovery: Redis and Kafka agree" in caplog.text
    assert "goes on from micro-batch" in caplog.text
    assert [record.value for record in await read_topic(settings, "segment-changes")] == before
    check_sequences(await changes_of(settings))


@pytest.mark.parametrize(
    "sent",
    [pytest.param(False, marks=pytest.mark.deep), True],
    ids=["nothing sent", "in an open transaction"],
)
async def test_a_micro_batch_that_was_persisted_but_not_published_is_published_by_the_next_owner(
    settings: Settings, log: SeededLog, caplog: pytest.LogCaptureFixture, sent: bool
) -> None:
    """From the outbox, as it was; what the dead owner's open transaction held is never seen."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    with power_cut(3, sent=sent):
        async with running(settings) as worker:
            await until(
                lambda: worker.states()[0].status is Status.STOPPED if worker.tasks else False, "dead"
            )
    published = await changes_of(settings)
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "a micro-batch was persisted but not published" in caplog.text
    assert "outbox of micro-batch 3 published" in caplog.text
    changes = await changes_of(settings)
    assert changes[: len(published)] == published
    check_sequences(changes)
    oracle = before_the_last_midnight(replayed(log, settings.load_model()).results.changes)
    assert before_the_last_midnight(changes) == oracle


async def test_a_micro_batch_that_kafka_has_lost_after_its_outbox_was_emptied_is_made_again(
    settings: Settings, log: SeededLog, redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """What its records were, only the inputs can tell: Redis is restored up to the micro-batch before."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    with power_cut(3):
        async with running(settings) as worker:
            await until(
                lambda: worker.states()[0].status is Status.STOPPED if worker.tasks else False, "dead"
            )
    redis_client.delete(PartitionKeys.of(settings, 0).outbox)
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "restoring Redis up to micro-batch 2" in caplog.text
    changes = await changes_of(settings)
    check_sequences(changes)
    oracle = before_the_last_midnight(replayed(log, settings.load_model()).results.changes)
    assert before_the_last_midnight(changes) == oracle


async def test_a_first_start_begins_where_the_log_does(
    settings: Settings, log: SeededLog, caplog: pytest.LogCaptureFixture
) -> None:
    """With neither Redis nor offsets, micro-batch 0 is committed at the first offset that each input still has."""
    await make_topics(settings)
    records = [record_of("purchases", record) for record in log["purchases"]]
    await produce(settings, records)
    await delete_records(settings, {"purchases": 10})
    with caplog.at_level(logging.INFO, "streams"):
        async with running(settings) as worker:
            await until_idle(settings, worker)
            outcomes = worker.states()[0].outcomes
    assert sum(outcomes.values()) == len(records) - 10
    assert "recovery: neither Redis nor Kafka knows this partition (Redis blank, Kafka blank)" in caplog.text
    assert "begun at micro-batch 0, offsets {'consents': 0, 'purchases': 10, 'engagements': 0}" in caplog.text


@pytest.mark.parametrize(
    "left",
    [
        pytest.param("nothing", marks=pytest.mark.deep),
        "nothing, of a short log",
        pytest.param("a checkpoint of another start", marks=pytest.mark.deep),
    ],
)
async def test_a_first_start_that_was_cut_short_begins_where_it_had_committed(
    settings: Settings,
    log: SeededLog,
    redis_client: Redis,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    left: str,
) -> None:
    """Kafka is at batch 0 and Redis has never heard of it; what another start left in Redis is not gone on with."""
    await make_topics(settings)
    if left == "nothing, of a short log":
        await produce(settings, [Record("purchases", b"k", b"of long ago")] * 5)
        await delete_records(settings, {"purchases": 5})

    async def dies(self: StateStore, *arguments: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as broken:
        broken.setattr(StateStore, "begin", dies)
        async with running(settings) as worker:
            await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "dead")
    committed = await asyncio.to_thread(read_committed_checkpoint, settings, 0)
    assert committed is not None
    assert committed.batch_id == 0
    keys = PartitionKeys.of(settings, 0)
    if left == "a checkpoint of another start":
        of_another: dict[Any, Any] = {
            "step": 1,
            "token": "b",
            "before_step": 0,
            "before_token": "a",
            "midnight_day": 1,
        }
        rest = {"offsets": '{"purchases":5,"engagements":0,"consents":0}', "model": "m", "status": "ready"}
        redis_client.hset(keys.meta, mapping=of_another | rest)
        redis_client.set(keys.customer("stray"), b"not even a state")
        redis_client.zadd(keys.due, {"stray": 0})
    await produce(settings, records_of(log))
    with caplog.at_level(logging.INFO, "streams"):
        await run_to_the_end(settings)
    assert "recovery: Redis has lost writes" in caplog.text
    assert "restoring Redis up to micro-batch 0" in caplog.text
    assert not redis_client.exists(keys.customer("stray"))
    oracle = before_the_last_midnight(replayed(log, settings.load_model()).results.changes)
    assert before_the_last_midnight(await changes_of(settings)) == oracle


async def test_redis_further_ahead_than_a_crash_explains_stops_that_partition_only(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """Its status and reason are told, nothing of it is published, and the other partition goes on."""
    await make_topics(settings, 2)
    first, then = log["purchases"][:100], log["purchases"][100:]
    await produce(settings, [record_of("purchases", record, 2) for record in first])
    await run_to_the_end(settings)
    meta = PartitionKeys.of(settings, 0).meta
    redis_client.hincrby(meta, "step", 5)
    held = snapshot(redis_client, settings)
    published = len(await changes_of(settings))
    await produce(settings, [record_of("purchases", record, 2) for record in then])
    async with running(settings) as worker:
        await until(
            lambda: {state.status for state in worker.states().values()} == {Status.STOPPED, Status.RUNNING},
            "one stopped",
        )
        await until(lambda: worker.states()[1].is_idle, "the other idle")
        said = readiness(worker)
    assert said["ready"] is True, "the worker can work"
    assert said["partitions"]["0"]["status"] == "stopped"
    assert "Redis is at micro-batch" in said["partitions"]["0"]["reason"]
    assert said["partitions"]["1"]["status"] == "running"
    new = (await read_topic(settings, "segment-changes"))[published:]
    assert {record.partition for record in await read_topic(settings, "segment-changes")} == {0, 1}
    assert new
    assert all(partition_of(record.key, 2) == record.partition for record in new)
    now = snapshot(redis_client, settings)
    assert {key for key in held if now[key] != held[key]} == {meta.encode()}, "only the owner token"


async def test_offsets_that_are_gone_while_redis_is_not_stop_the_partition(
    settings: Settings, log: SeededLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Going on would process the log once more on top of what Redis holds."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    before = len(await changes_of(settings))
    await forget_offsets(settings)
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        reason = worker.states()[0].reason
    assert "Kafka has no committed offsets, but Redis is at micro-batch" in reason
    assert "EBBTIDE_GROUP_ID" in reason
    assert ("CRITICAL", reason) in [(record.levelname, record.message) for record in caplog.records]
    assert len(await changes_of(settings)) == before


async def test_offsets_that_something_else_committed_stop_the_partition(
    settings: Settings, log: SeededLog
) -> None:
    """Offsets without our metadata are not those of a micro-batch."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    tp = TopicPartition(settings.topic("purchases"), 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.group_id
    ) as other:
        other.assign([tp])
        await other.commit({tp: 1})
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        assert "something else commits under this EBBTIDE_GROUP_ID" in worker.states()[0].reason


async def test_an_offset_that_the_broker_no_longer_has_stops_the_partition(
    settings: Settings, log: SeededLog
) -> None:
    """Records that retention deleted before they were read are not skipped without a word."""
    await make_topics(settings)
    records = [record_of("purchases", record) for record in log["purchases"]]
    await produce(settings, records[:50])
    await run_to_the_end(settings)
    await produce(settings, records[50:])
    await delete_records(settings, {"purchases": 60})
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        assert settings.topic("purchases") in worker.states()[0].reason


async def test_a_fenced_owner_publishes_nothing_more(
    settings: Settings, log: SeededLog, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that froze between persist and publish wakes up after another has gone on without it."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    model, frozen, thawed = settings.load_model(), asyncio.Event(), asyncio.Event()
    publish = TransactionalPublisher.publish
    first: list[TransactionalPublisher] = []

    async def freezes(self: TransactionalPublisher, records: Sequence[object], checkpoint: object) -> None:
        if not first and checkpoint.batch_id == 2:  # type: ignore[attr-defined]
            first.append(self)
            frozen.set()
            await thawed.wait()
        await publish(self, records, checkpoint)  # type: ignore[arg-type]

    monkeypatch.setattr(TransactionalPublisher, "publish", freezes)
    async with real_clients(settings) as clients:
        runtime = Runtime.of(settings, clients, model=model)
        old, new = (PartitionTask(runtime, EventClock(), 0) for _ in range(2))
        zombie = asyncio.create_task(old.run())
        await frozen.wait()
        owner = asyncio.create_task(new.run())
        await until(lambda: new.state.is_idle, "the new owner to finish")
        published = await changes_of(settings)
        old.stopping.set()
        thawed.set()
        await zombie
        assert old.state.status is Status.BACKING_OFF
        await produce(settings, [record_of("purchases", {**log["purchases"][-1], "event_id": "one more"})])
        batch = new.state.checkpoint.batch_id if new.state.checkpoint else 0
        await until(
            lambda: new.state.checkpoint is not None and new.state.checkpoint.batch_id > batch,
            "one more micro-batch",
        )
        new.stopping.set()
        await owner
    changes = await changes_of(settings)
    assert changes[: len(published)] == published
    check_sequences(changes)


async def test_an_owner_whose_partition_another_has_claimed_writes_nothing_to_redis(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """The owner token in Redis fences even where Kafka would not have."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records[:300])
    async with real_clients(settings) as clients:
        task = PartitionTask(Runtime.of(settings, clients), EventClock(), 0)
        run = asyncio.create_task(task.run())
        await until(lambda: task.state.is_idle, "idle")
        redis_client.hset(PartitionKeys.of(settings, 0).meta, "owner_token", "of another")
        held = snapshot(redis_client, settings)
        await produce(settings, records[300:])
        await until(lambda: task.state.status is not Status.RUNNING, "fenced")
        assert snapshot(redis_client, settings) == held
        assert re.search("Redis refused to .*: fenced", task.state.reason)
        await until(lambda: task.state.status is Status.RUNNING and task.state.is_idle, "taken over again")
        task.stopping.set()
        await run
    check_sequences(await changes_of(settings))


async def test_a_transaction_left_open_is_aborted_by_the_next_owner(
    settings: Settings, log: SeededLog
) -> None:
    """It holds up no reader, and nothing of it is ever seen."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    dead = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=transactional_id(settings, 0)
    )
    await dead.start()
    await dead.begin_transaction()
    await dead.send_and_wait(settings.topic("segment-changes"), b"of the dead", partition=0)
    try:
        await run_to_the_end(settings)
        seen = [record.value for record in await read_topic(settings, "segment-changes")]
        sent = await read_topic(settings, "segment-changes", "read_uncommitted")
        assert b"of the dead" not in seen
        assert b"of the dead" in {record.value for record in sent}
        check_sequences(await changes_of(settings))
    finally:
        await dead.client.close()
        await dead.stop()


async def test_offsets_records_and_checkpoint_are_of_the_same_micro_batch(
    settings: Settings, log: SeededLog
) -> None:
    """What Kafka has committed is where Redis is, and covers every input to its end."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        checkpoint = worker.states()[0].checkpoint
    assert await asyncio.to_thread(read_committed_checkpoint, settings, 0) == checkpoint
    assert checkpoint is not None
    expected: dict[InputTopic, int] = {topic: len(log[topic]) for topic in INPUT_TOPICS}
    assert checkpoint.offsets == expected


async def test_inputs_written_in_transactions_are_read_committed_to_their_end(
    settings: Settings, log: SeededLog
) -> None:
    """Aborted records are not processed, and the markers at a partition's end keep nobody from being idle."""
    await make_topics(settings)
    values = [orjson.dumps(record) for record in log["purchases"][:6]]
    topic = settings.topic("purchases")
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"{settings.topic_prefix}shop"
    ) as shop:
        for number, value in enumerate(values):
            await shop.begin_transaction()
            await shop.send_and_wait(topic, value, orjson.loads(value)["customer_id"].encode(), partition=0)
            if number % 2 == 0:
                await shop.commit_transaction()
            else:
                await shop.abort_transaction()
    for committed in (3, 0):
        async with running(settings) as worker:
            await until(lambda: worker.is_idle, "idle")
            assert sum(worker.states()[0].outcomes.values()) == committed
    check_sequences(await changes_of(settings))
