"""What a worker says of itself on /metrics, against what its topics hold."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from enrichment.days import DAY_US, day_of
from schemas.topics import INPUT_TOPICS
from streams.outbox import OutputRecord
from streams.settings import Settings
from streams.state.changelog import FACTS, KIND_HEADER
from streams.state.keys import PartitionKeys
from streams.worker import batch_loop
from streams.worker import exposition as exposition_module
from streams.worker.exposition import Exposition
from streams.worker.partition_state import Status
from streams.worker.publisher import TransactionalPublisher
from tests.integration.damage import empty
from tests.integration.harness import (
    Record,
    Scrape,
    make_topics,
    produce,
    read_documents,
    read_topic,
    record_of,
    records_of,
    run_to_the_end,
    running,
    scrape,
    until,
    until_idle,
    worker_process,
)
from tests.oracles.seeded_log import SeededLog, make_log

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    """By the event clock, where time brings changes too; small micro-batches, so that there are several."""
    return seeded_settings.model_copy(update={"clock": "event", "batch_max_records": 100})


@pytest.fixture
def log(random_seed: int) -> SeededLog:
    """With records that come twice and late."""
    return make_log(random_seed, customers=60, days=300, events=900)


async def scraped(exposition: Exposition) -> Scrape:
    """What the `/metrics` of a worker in this process would say."""
    body, _ = await exposition.answer("")
    return Scrape(body.decode())


async def test_counters_agree_with_what_the_topics_hold(
    settings: Settings, log: SeededLog, tmp_path: Path
) -> None:
    """Events, dead letters, changes, triggers and output records are each counted once, with their labels."""
    await make_topics(settings, 2)
    bad = [
        Record("purchases", b"c", b"not JSON"),
        Record(
            "engagements", b"c", orjson.dumps({**log["engagements"][0], "customer_id": "c", "kind": "new"})
        ),
        Record("consents", None, orjson.dumps(log["consents"][0]), 1),
    ]
    records = [*records_of(log, 2), *bad]
    await produce(settings, records)
    with worker_process(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: worker.is_idle(2), "idle")
        said = scrape(settings)
    total = Counter(record.topic for record in records)
    by_topic = said.by("ebbtide_events_total", "topic")
    assert by_topic == {(topic,): count for topic, count in total.items()}
    assert said.sum("ebbtide_events_total", outcome="duplicate") > 0
    letters = Counter(
        dict(letter.headers)["__streams.errors.exception"].decode()
        for letter in await read_topic(settings, "dead-letters")
    )
    assert letters.keys() >= {"Malformed", "UnknownKind", "KeyMismatch"}
    assert said.by("ebbtide_dead_letters_total", "reason") == {(why,): n for why, n in letters.items()}
    assert said.sum("ebbtide_events_total", outcome="dead_letter") == letters.total()
    changes = await read_documents(settings, "segment-changes")
    expected = Counter((c["dimension"], c["direction"], c["reason"]["trigger"]) for c in changes)
    assert {trigger for _, _, trigger in expected} >= {"event", "time"}
    assert said.by("ebbtide_changes_total", "dimension", "direction", "trigger") == expected
    groups = Counter((t["group"],) for t in await read_documents(settings, "reactivation-triggers"))
    assert said.by("ebbtide_reactivation_triggers_total", "group") == groups
    published = {}
    for topic in ("segment-changes", "customer-profiles", "dead-letters", "ebbtide-decisions"):
        records_out = await read_topic(settings, topic)
        # A recovery's own record, of the partition's facts, is of no micro-batch that counts.
        published[(topic,)] = sum(dict(out.headers).get(KIND_HEADER) != FACTS for out in records_out)
    if groups:
        published[("reactivation-triggers",)] = groups.total()
    assert said.by("ebbtide_output_records_total", "topic") == published
    moved_by_events = {
        (c["customer_id"], c["reason"]["event_id"]) for c in changes if c["reason"]["event_id"]
    }
    latency = "ebbtide_event_to_change_latency_seconds"
    assert said.sum(f"{latency}_count", since="broker") == len(moved_by_events)
    assert said.sum(f"{latency}_bucket", since="broker", le="300.0") == len(moved_by_events)
    assert said.sum(f"{latency}_count", since="occurred_at") == 0
    assert said.sum("ebbtide_batch_records_sum") == len(records)
    batches = said.sum("ebbtide_batch_records_count")
    for phase in ("fetch", "compute", "persist", "publish"):
        assert said.sum("ebbtide_batch_duration_seconds_count", phase=phase) == batches
        assert said.sum("ebbtide_batch_duration_seconds_sum", phase=phase) > 0
    customers = {record["customer_id"] for topic in INPUT_TOPICS for record in log[topic]}
    assert said.sum("ebbtide_cache_lookups_total", result="miss") >= len(customers)
    assert said.sum("ebbtide_cache_lookups_total", result="hit") > 0


async def test_gauges_say_how_partitions_stand(settings: Settings, log: SeededLog, tmp_path: Path) -> None:
    """An idle worker: nothing lags, nobody is due, each partition runs and has passed the midnight that Redis has."""
    await make_topics(settings, 2)
    await produce(settings, records_of(log, 2))
    with worker_process(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: worker.is_idle(2), "idle")
        said = scrape(settings)
    assert said.by("ebbtide_partition_status", "partition", "status") == {
        ("0", "running"): 1,
        ("1", "running"): 1,
    }
    assert said.sum("ebbtide_consumer_lag_records") == said.sum("ebbtide_due_customers") == 0
    assert len([s for s in said.samples if s.name == "ebbtide_consumer_lag_records"]) == 6
    assert said.by("ebbtide_recoveries_total", "kind") == {("first_start",): 2}
    assert said.sum("ebbtide_input_partitions") == 2
    assert said.sum("ebbtide_worker_ready") == 1
    assert said.sum("ebbtide_worker_failed") == 0
    assert said.sum("ebbtide_clock_trusted") == 2
    assert said.sum("ebbtide_worker_info", clock="event", group_id=settings.group_id) == 1
    assert said.sum("ebbtide_cached_customers") > 0
    last = {s.labels["partition"]: s.value for s in said.samples if "last_midnight" in s.name}
    assert set(last) == {"0", "1"}
    assert all(seconds > 0 and seconds % 86_400 == 0 for seconds in last.values())
    assert said.sum("ebbtide_midnights_passed_total") > 200
    assert said.sum("process_resident_memory_bytes") > 0


async def test_lag_is_known_while_a_micro_batch_is_held_up(
    settings: Settings, log: SeededLog, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts what no micro-batch has taken, by the end that the latest fetch told."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records)
    held_up, go_on = asyncio.Event(), asyncio.Event()
    publish = TransactionalPublisher.publish

    async def waits(self: TransactionalPublisher, sent: Sequence[OutputRecord], checkpoint: object) -> None:
        if checkpoint.batch_id == 2:  # type: ignore[attr-defined]
            held_up.set()
            await go_on.wait()
        await publish(self, sent, checkpoint)  # type: ignore[arg-type]

    monkeypatch.setattr(TransactionalPublisher, "publish", waits)
    async with running(settings.model_copy(update={"publish_timeout_s": 300.0})) as worker:
        exposition = Exposition(worker)
        await asyncio.wait_for(held_up.wait(), 60)
        published = worker.states()[0].checkpoint
        stored = redis_client.hget(PartitionKeys.of(settings, 0).meta, "offsets")
        assert published is not None
        assert isinstance(stored, bytes)
        waiting = len(records) - sum(orjson.loads(stored).values())
        said = await scraped(exposition)
        assert said.sum("ebbtide_events_total") == sum(published.offsets.values())
        assert said.sum("ebbtide_consumer_lag_records") == waiting > 0
        await produce(settings, records[:10])
        async with asyncio.timeout(60):
            while (await scraped(exposition)).sum("ebbtide_consumer_lag_records") != waiting + 10:
                await asyncio.sleep(0.05)
        go_on.set()
        await until_idle(settings, worker)
        assert (await scraped(exposition)).sum("ebbtide_consumer_lag_records") == 0


async def test_what_is_no_record_does_not_lag(settings: Settings, log: SeededLog) -> None:
    """The ends of transactions, and what they aborted, lie behind the last record that was taken."""
    await make_topics(settings)
    record = record_of("purchases", log["purchases"][0])
    async with AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"{settings.topic_prefix}shop"
    ) as shop:
        for end in (shop.commit_transaction, shop.abort_transaction):
            await shop.begin_transaction()
            await shop.send_and_wait(settings.topic("purchases"), record.value, record.key, partition=0)
            await end()
    async with running(settings) as worker:
        await until(lambda: worker.is_idle, "idle")
        said = await scraped(Exposition(worker))
    assert said.sum("ebbtide_events_total") == 1
    assert said.sum("ebbtide_consumer_lag_records", topic="purchases") == 0


async def test_customers_whom_a_midnight_has_yet_to_reach_are_counted(
    settings: Settings, log: SeededLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new model makes everyone due; held up before its first micro-batch, the worker says so."""
    await make_topics(settings)
    await produce(settings, records_of(log))
    await run_to_the_end(settings)
    customers = len({record["customer_id"] for topic in INPUT_TOPICS for record in log[topic]})
    model = settings.load_model().model_copy(update={"version": "another"})
    monkeypatch.setattr(Settings, "load_model", lambda self: model)
    held_up, go_on = asyncio.Event(), asyncio.Event()
    publish = TransactionalPublisher.publish

    async def waits(self: TransactionalPublisher, sent: Sequence[OutputRecord], checkpoint: object) -> None:
        if sent:
            held_up.set()
            await go_on.wait()
        await publish(self, sent, checkpoint)  # type: ignore[arg-type]

    monkeypatch.setattr(TransactionalPublisher, "publish", waits)
    monkeypatch.setattr(exposition_module, "DUE_COUNTED_EVERY_S", 0.0)
    monkeypatch.setattr(
        batch_loop, "SWEEP_S", 60.0
    )  # the number of customers ends a micro-batch, not the time
    slices = {"batch_max_customers": 10, "publish_timeout_s": 300.0}
    async with running(settings.model_copy(update=slices)) as worker:
        exposition = Exposition(worker)
        await asyncio.wait_for(held_up.wait(), 60)
        waiting = (await scraped(exposition)).sum("ebbtide_due_customers")
        go_on.set()
        await until_idle(settings, worker)
        assert (await scraped(exposition)).sum("ebbtide_due_customers") == 0
    assert 0 < waiting <= customers - 10


async def test_a_restore_is_counted_with_its_records(
    settings: Settings, log: SeededLog, redis_client: Redis
) -> None:
    """As a recovery that found lost writes, and as a restore that read the whole log."""
    await make_topics(settings)
    records = records_of(log)
    await produce(settings, records)
    await run_to_the_end(settings)
    empty(redis_client, settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        said = await scraped(Exposition(worker))
    assert said.by("ebbtide_recoveries_total", "kind") == {("lost_writes",): 1}
    assert said.by("ebbtide_restores_total", "result") == {("done",): 1}
    assert said.sum("ebbtide_restore_records_total") == len(records)
    assert said.sum("ebbtide_restore_duration_seconds_count") == 1
    assert not [sample for sample in said.samples if sample.name == "ebbtide_restore_running"]


async def test_a_clock_that_is_not_trusted_is_seen(settings: Settings) -> None:
    """Three days from Redis' clock, the worker runs but passes no midnight, and says why."""
    settings = settings.model_copy(update={"clock": "wall"})
    await make_topics(settings)
    async with running(settings) as worker:
        await until(lambda: worker.is_idle, "idle")
        said = await scraped(Exposition(worker))
        assert said.sum("ebbtide_clock_trusted") == 1
        assert said.sum("ebbtide_last_midnight_timestamp_seconds") == day_of(time.time_ns() // 1_000) * 86_400

    def three_days_on() -> int:
        return time.time_ns() // 1_000 + 3 * DAY_US

    async with running(settings, three_days_on) as worker:
        await until(
            lambda: bool(worker.tasks) and worker.states()[0].is_clock_trusted is not None, "the clock judged"
        )
        assert (await scraped(Exposition(worker))).sum("ebbtide_clock_trusted") == 0


async def test_errors_and_what_is_unknown_while_backing_off(
    settings: Settings, log: SeededLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each error is counted by its type; lag and due customers of a partition that does not run are not made up."""
    await make_topics(settings)
    await produce(settings, records_of(log))

    async def fails(self: TransactionalPublisher, sent: Sequence[OutputRecord], checkpoint: object) -> None:
        raise OSError("cut off")

    monkeypatch.setattr(TransactionalPublisher, "publish", fails)
    async with running(settings) as worker:
        await until(
            lambda: bool(worker.tasks) and worker.states()[0].status is Status.BACKING_OFF, "backing off"
        )
        said = await scraped(Exposition(worker))
    assert said.sum("ebbtide_back_offs_total", error="OSError") >= 1
    assert said.by("ebbtide_partition_status", "status") == {("backing_off",): 1}
    assert not {"ebbtide_consumer_lag_records", "ebbtide_due_customers"} & {s.name for s in said.samples}
