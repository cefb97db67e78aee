"""Which partition stopped and why: on /readyz, by the metrics, and by `ebbtide doctor`, which is another process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from streams.checkpoint import Checkpoint
from streams.kafka.size_limits import StoppedError
from streams.operations.partition_survey import PartitionHealth, survey
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker.partition_state import Status
from streams.worker.publisher import TransactionalPublisher
from tests.integration.damage import delete_records, empty, forget_offsets, power_cut, snapshot
from tests.integration.harness import (
    make_topics,
    process_environment,
    produce,
    record_of,
    records_of,
    run_to_the_end,
    running,
    scrape,
    until,
    worker_process,
)
from tests.oracles.seeded_log import SeededLog, make_log
from tests.services.fork_server import run_forked

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    """Small micro-batches, so that even a small log takes several."""
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    return make_log(random_seed, customers=20, days=200, events=500)


def doctor(settings: Settings) -> tuple[int, list[str]]:
    """The exit code of `ebbtide doctor`, and what it says of partitions."""
    done = run_forked(["streams", "doctor"], process_environment(settings))
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return done.returncode, [f"{status} {said}" for status, check, said in lines if check == "partitions"]


async def surveyed(settings: Settings) -> list[PartitionHealth]:
    return await survey(settings, settings.load_model())


async def test_a_stopped_partition_is_named_with_its_reason_until_it_goes_on(
    settings: Settings, log: SeededLog, redis_client: Redis, tmp_path: Path
) -> None:
    """By the worker while it lives, by the doctor also afterwards; the next owner's recovery ends it."""
    await make_topics(settings, 2)
    await produce(settings, records_of(log, 2))
    await run_to_the_end(settings)
    meta = PartitionKeys.of(settings, 0).meta
    redis_client.hincrby(meta, "step", 5)
    with worker_process(settings, tmp_path / "stopped.log") as worker:
        await worker.until(
            lambda: {said["status"] for said in worker.partitions().values()} == {"stopped", "running"},
            "one stopped",
        )
        answer = worker.readiness()
        metrics = scrape(settings)
        beside_the_worker = await asyncio.to_thread(doctor, settings)
        worker.terminate()
    assert answer is not None
    status, said = answer
    reason = said["partitions"]["0"]["reason"]
    assert (status, said["ready"], said["failure"]) == (200, True, None), "the worker can work"
    assert reason.startswith("partition 0: stopped: Redis is at micro-batch ")
    assert metrics.sum("ebbtide_partition_status", partition="0", status="stopped") == 1
    assert metrics.sum("ebbtide_partition_status", partition="1", status="running") == 1
    assert metrics.sum("ebbtide_worker_ready") == 1
    for code, lines in (beside_the_worker, await asyncio.to_thread(doctor, settings)):
        assert code == 1
        assert lines[0] == "ok 1: Redis and Kafka agree"
        assert lines[1].startswith(f"error {reason} (since 20")
        assert len(lines) == 2, "the comparison finds the same, which is not said twice"

    redis_client.hincrby(meta, "step", -5)
    (kept,) = [standing for standing in await surveyed(settings) if standing.partition == 0]
    assert kept.status == "error", "nothing has worked on it since"
    with worker_process(settings, tmp_path / "mended.log") as worker:
        await worker.until(lambda: worker.is_idle(2), "idle")
        assert await asyncio.to_thread(doctor, settings) == (0, ["ok 2: Redis and Kafka agree"])
    assert not redis_client.hexists(meta, "stopped_reason")


async def test_a_reason_is_kept_by_the_owner_only(
    settings: Settings, log: SeededLog, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stops after another has claimed the partition says nothing of it in Redis."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    meta = PartitionKeys.of(settings, 0).meta
    publish = TransactionalPublisher.publish

    async def claimed_meanwhile(
        self: TransactionalPublisher, sent: list[OutputRecord], checkpoint: Checkpoint
    ) -> None:
        if checkpoint.batch_id == 2:
            redis_client.hset(meta, "owner_token", "of another")
            raise StoppedError("too late")
        await publish(self, sent, checkpoint)

    monkeypatch.setattr(TransactionalPublisher, "publish", claimed_meanwhile)
    async with running(settings) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].status is Status.STOPPED, "stopped")
        assert worker.states()[0].reason == "partition 0: stopped: too late"
    assert redis_client.hget(meta, "step") == b"2"
    assert not redis_client.hexists(meta, "stopped_reason")


Damage = Callable[[Settings, Redis], object]


def _another_redis(settings: Settings, redis: Redis) -> None:
    redis.hincrby(PartitionKeys.of(settings, 0).meta, "step", 5)


def _emptied(settings: Settings, redis: Redis) -> None:
    empty(redis, settings)


def _being_restored(settings: Settings, redis: Redis) -> None:
    redis.hset(PartitionKeys.of(settings, 0).meta, "status", "rebuilding")


@pytest.mark.parametrize(
    ("damage", "status", "message"),
    [
        (lambda settings, redis: None, "ok", "Redis and Kafka agree"),
        (_another_redis, "error", "partition 0: stopped: Redis is at micro-batch"),
        pytest.param(
            *(
                _emptied,
                "warning",
                "partition 0: Redis has lost writes: it will be restored, up to micro-batch",
            ),
            marks=pytest.mark.deep,
        ),
        pytest.param(
            *(_being_restored, "warning", "partition 0: its restore is not done, up to micro-batch"),
            marks=pytest.mark.deep,
        ),
    ],
    ids=["none", "another Redis", "emptied", "being restored"],
)
async def test_the_survey_says_what_a_recovery_would_find_and_changes_nothing(
    settings: Settings, log: SeededLog, redis_client: Redis, damage: Damage, status: str, message: str
) -> None:
    """Nobody is fenced, nothing is claimed, mended or written."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    damage(settings, redis_client)
    before = snapshot(redis_client, settings)
    (standing,) = await surveyed(settings)
    assert standing.status == status
    assert standing.message.startswith(message)
    assert snapshot(redis_client, settings) == before


async def test_the_survey_finds_what_a_log_cut_short_will_stop(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """A restore that needs deleted records, unless it is allowed; and records deleted before they were taken."""
    await make_topics(settings)
    records = [record_of("purchases", record) for record in log["purchases"]]
    await produce(settings, records[:50])
    await run_to_the_end(settings)
    await delete_records(settings, {"purchases": 10})
    (standing,) = await surveyed(settings)
    assert standing.status == "ok", "nothing has to be restored"
    held = snapshot(redis_client, settings)
    empty(redis_client, settings)
    (standing,) = await surveyed(settings)
    assert standing.status == "error"
    assert "Redis must be restored, but" in standing.message
    (standing,) = await surveyed(settings.model_copy(update={"restore_from_short_log": True}))
    assert standing.status == "warning"
    for key, value in held.items():
        redis_client.restore(key, 0, value)
    await produce(settings, records[50:])
    await delete_records(settings, {"purchases": 60})
    (standing,) = await surveyed(settings)
    assert standing.status == "error"
    assert f"Kafka no longer has {settings.topic('purchases')} offset 50" in standing.message


async def test_the_survey_finds_offsets_that_are_gone_or_not_ours(settings: Settings, log: SeededLog) -> None:
    """And before any start, that there was none."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    await make_topics(settings)
    await produce(settings, records_of(log))
    (standing,) = await surveyed(settings)
    assert (standing.status, standing.message) == ("ok", "neither Redis nor Kafka knows this partition")
    await run_to_the_end(settings)
    tp = TopicPartition(settings.topic("purchases"), 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers, group_id=settings.group_id
    ) as other:
        other.assign([tp])
        await other.commit({tp: 1})
    (standing,) = await surveyed(settings)
    assert standing.status == "error"
    assert "something else commits under this EBBTIDE_GROUP_ID" in standing.message
    await forget_offsets(settings)
    (standing,) = await surveyed(settings)
    assert standing.status == "error"
    assert "Kafka has no committed offsets, but Redis is at micro-batch" in standing.message


async def test_the_survey_finds_that_redis_and_the_offsets_were_both_lost(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """The decisions are left, and say that this is no first start."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    empty(redis_client, settings)
    await forget_offsets(settings)
    (standing,) = await surveyed(settings)
    assert standing.status == "error"
    assert f"{settings.topic('ebbtide-decisions')} holds decisions of" in standing.message


async def test_a_micro_batch_that_was_not_published_is_no_fault(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """One ahead is where Redis is while a micro-batch is being published, and after a crash in between."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    with power_cut(3):
        async with running(settings) as worker:
            await until(lambda: bool(worker.tasks) and bool(worker.states()[0].reason), "dead")
    redis_client.hdel(PartitionKeys.of(settings, 0).meta, "stopped_reason", "stopped_at_us")
    (standing,) = await surveyed(settings)
    assert (standing.status, standing.message) == ("ok", "a micro-batch was persisted but not published")


async def test_a_survey_beside_a_worker_at_work_finds_no_fault(settings: Settings, log: SeededLog) -> None:
    """However often Redis and Kafka move on between being asked, and nobody is put out by it."""
    await make_topics(settings)
    small = settings.model_copy(update={"batch_max_records": 1})
    records = records_of(log)
    await produce(small, records)
    async with running(small) as worker:
        await until(lambda: bool(worker.tasks) and worker.states()[0].batches > 0, "at work")
        for _ in range(5):
            (standing,) = await surveyed(small)
            assert standing.status == "ok", standing
        batches = worker.states()[0].batches
        await until(lambda: worker.is_idle or worker.states()[0].batches > batches, "still at work")
    assert batches > 1


async def test_at_least_once_is_surveyed_by_redis_alone(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """It commits no offsets; only a restore that was cut short stops it."""
    relaxed = settings.model_copy(update={"processing_guarantee": "at_least_once"})
    await make_topics(relaxed)
    await produce(relaxed, records_of(log))
    (standing,) = await surveyed(relaxed)
    assert (standing.status, standing.message) == ("ok", "neither Redis nor Kafka knows this partition")
    await run_to_the_end(relaxed)
    (standing,) = await surveyed(relaxed)
    assert (standing.status, standing.message) == ("ok", "Redis says where to go on from")
    _being_restored(relaxed, redis_client)
    (standing,) = await surveyed(relaxed)
    assert standing.status == "error"
    assert "only exactly_once can finish it" in standing.message
