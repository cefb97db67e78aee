"""The first load: history that lies in the inputs before the first start, by the wall clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import orjson
import pytest
from aiokafka import TopicPartition
from redis import Redis

from ebbtide.testing.records import DEFAULT_MODEL
from enrichment.days import DAY_US, day_of, format_time, midnight_us
from enrichment.model import Model
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Checkpoint, FirstLoad
from streams.demo.demo import load_events
from streams.errors import EbbtideError
from streams.kafka import fetching
from streams.kafka.batches import Unreadable
from streams.kafka.fetching import UnreadableError
from streams.operations.partition_survey import survey
from streams.replay.replay import replay
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.worker import partition_task
from streams.worker.batch_loop import BatchLoop
from streams.worker.partition_state import PartitionState, Status
from streams.worker.worker import Worker
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    check_sequences,
    make_topics,
    partition_of,
    partitions_of,
    produce,
    read_committed_checkpoint,
    read_documents,
    read_topic,
    readiness_of,
    record_of,
    running,
    stored_profiles,
    until,
    until_idle,
    worker_process,
    write_model,
)

pytestmark = pytest.mark.real_kafka

PARTITIONS = 4
STANDING = ("segment", "tier", "lifecycle")
Log = dict[InputTopic, list[Document]]


class History(NamedTuple):
    """A year of the demo's households that ends yesterday, and where the plain rules put each of them."""

    records: list[Record]
    bad: list[Record]
    day: int
    """The day of the last midnight."""
    standings: dict[str, Document]


def plain(model: Model) -> Model:
    """The model without hysteresis: a standing is what the plain rules say on that day."""
    hysteresis = {"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0}
    return Model.model_validate({**model.model_dump(mode="json"), "hysteresis": hysteresis})


def history_of(percent_of_households: int, model: Model) -> History:
    """The demo's events, moved by whole days, with some bad records between them."""
    documents = [(topic, orjson.loads(value)) for topic, _, _, value in load_events(percent_of_households)]
    today = day_of(time.time_ns() // 1_000)
    newest_day = max(day_of(parse_timestamp(document["occurred_at"])) for _, document in documents)
    moved_us = (today - 1 - newest_day) * DAY_US
    records, bad = [], []
    for number, (topic, document) in enumerate(documents):
        for field in {"occurred_at", "expires_at"} & document.keys():
            document[field] = format_time(parse_timestamp(document[field]) + moved_us)
        records.append(record_of(topic, document, PARTITIONS))
        if number % 300 == 0:
            key = b"bad-%d" % number
            bad.append(Record(topic, key, b"{", partition_of(key, PARTITIONS)))
            records.append(bad[-1])
    values = ((topic, orjson.dumps(document)) for topic, document in documents)
    profiles = replay(values, plain(model), midnight_us(today)).profiles
    standings = {str(profile["customer_id"]): profile["standing"] for profile in profiles}
    return History(records, bad, today, standings)


@pytest.fixture(params=[5, pytest.param(100, marks=pytest.mark.deep)])
def history(request: pytest.FixtureRequest, settings: Settings) -> History:
    return history_of(request.param, settings.load_model())


def meta_of(settings: Settings, partition: int) -> dict[str, Any] | None:
    """MicroBatch, offsets and first load of a partition by Redis; None before it has begun."""
    with Redis.from_url(settings.redis_url) as redis:
        found: Any = redis.hgetall(PartitionKeys.of(settings, partition).meta)
    if b"step" not in found:
        return None
    return {
        "step": int(found[b"step"]),
        "offsets": orjson.loads(found[b"offsets"]),
        "load": orjson.loads(found[b"load"]),
    }


def is_deciding(settings: Settings) -> bool:
    """Whether some partition has folded its records, and decided on some of its customers, not all."""
    for partition in range(PARTITIONS):
        meta = meta_of(settings, partition)
        if meta is None or meta["load"]["is_over"] or meta["offsets"] != meta["load"]["ends"]:
            continue
        with Redis.from_url(settings.redis_url) as redis:
            if redis.zcount(PartitionKeys.of(settings, partition).due, 0, "inf"):
                return True
    return False


def is_folding(settings: Settings) -> bool:
    """Whether every partition has folded some records, and not all."""
    metas = [meta_of(settings, partition) for partition in range(PARTITIONS)]
    return all(meta and meta["step"] >= 2 and not meta["load"]["is_over"] for meta in metas)


def empty_redis(settings: Settings) -> None:
    """Delete whatever Redis holds of the group."""
    with Redis.from_url(settings.redis_url) as redis:
        keys = list(redis.scan_iter(f"ebbtide:{{{settings.topic_prefix}:*", count=1_000))
        redis.delete(*keys)


async def check_loaded(settings: Settings, history: History) -> None:
    """One `entered` in each dimension for every customer, where the plain rules put them; each bad record told once."""
    changes = await changes_of(settings)
    check_sequences(changes)
    assert {(change["direction"], change["reason"]["trigger"]) for change in changes} == {("entered", "load")}
    assert {change["as_of"] for change in changes} == {format_time(midnight_us(history.day))}
    assert len(changes) == len({(change["customer_id"], change["dimension"]) for change in changes})
    entered: dict[str, Document] = {}
    for change in changes:
        entered.setdefault(change["customer_id"], {})[change["dimension"]] = change["current"]
    expected = {name: standing for name, standing in history.standings.items() if standing["segment"]}
    assert len(expected) > 50
    assert entered == expected
    profiles = {
        document["customer_id"]: document for document in await read_documents(settings, "customer-profiles")
    }
    assert {name: document["standing"] for name, document in profiles.items()} == history.standings
    decided = {
        record.key.decode()
        for record in await read_topic(settings, "ebbtide-decisions")
        if record.key[:1] != b"\xff"
    }
    assert decided == history.standings.keys()
    letters = [(record.key, record.value) for record in await read_topic(settings, "dead-letters")]
    assert sorted(letters) == sorted((record.key, record.value) for record in history.bad)
    assert await read_documents(settings, "reactivation-triggers") == []


@pytest.mark.parametrize("core", ["auto", "python"])
async def test_everyone_enters_where_the_plain_rules_put_them(
    settings: Settings, history: History, core: str
) -> None:
    """A year produced before the first start. Dwell does not begin by it: the first order moves who was silent."""
    settings = settings.model_copy(update={"core": core})
    await make_topics(settings, PARTITIONS)
    await produce(settings, history.records)
    async with running(settings) as worker:
        await until_idle(settings, worker, 300)
        await check_loaded(settings, history)
        silent = next(
            name for name, standing in history.standings.items() if standing["lifecycle"] == "lapsed"
        )
        order = order_at(silent, "back", 0)
        await produce(settings, [record_of("purchases", order, PARTITIONS)])
        await until_idle(settings, worker)
    moved = [change for change in await changes_of(settings) if change["reason"]["event_id"] == "back"]
    assert "lifecycle" in {change["dimension"] for change in moved}
    assert {change["reason"]["trigger"] for change in moved} == {"event"}


@pytest.mark.parametrize("damage", ["killed", pytest.param("Redis emptied", marks=pytest.mark.deep)])
async def test_a_crash_in_the_middle_of_it_changes_nothing(
    settings: Settings, history: History, tmp_path: Path, damage: str
) -> None:
    """While records are folded, and again while customers are decided on; where one core stopped the other goes on."""
    settings = settings.model_copy(update={"batch_max_records": 50, "batch_max_customers": 4})
    await make_topics(settings, PARTITIONS)
    await produce(settings, history.records)
    for is_so, core in ((is_folding, "auto"), (is_deciding, "python")):
        by_core = settings.model_copy(update={"core": core})
        with worker_process(by_core, tmp_path / "worker.log") as worker:
            await worker.until(lambda: is_so(settings), is_so.__name__, 180)  # noqa: B023
            worker.kill()
        if damage == "Redis emptied":
            empty_redis(settings)
    with worker_process(settings, tmp_path / "worker.log") as worker:
        await worker.until(lambda: worker.is_idle(PARTITIONS), "idle", 300)
    assert ("restoring Redis" in worker.log_text()) == (damage == "Redis emptied")
    await check_loaded(settings, history)


# ------------------------------------------------------------------- small histories


def at(days_ago: float) -> str:
    """A time so many days before now."""
    return (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()


def order_at(customer: str, event_id: str, days_ago: float) -> Document:
    return {
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at(days_ago),
        "kind": "order",
        "order_id": event_id,
        "currency": "USD",
        "total": "20.00",
    }


def consent_at(customer: str, event_id: str, days_ago: float, **said: Any) -> Document:
    document = {"event_id": event_id, "customer_id": customer, "occurred_at": at(days_ago), **said}
    return {"kind": "consent", **document}


def opened_at(customer: str, event_id: str, days_ago: float) -> Document:
    return {
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": at(days_ago),
        "kind": "opened",
        "channel": "email",
    }


SMALL: Log = {
    "consents": [
        consent_at("denies", "denial", 5, purpose="profiling", granted=False),
        consent_at("asked again", "grant", 10, purpose="email", granted=True),
        consent_at("asked again", "erasure", 20, kind="erasure"),
        consent_at("gone", "erasure", 1, kind="erasure"),
        consent_at("back", "erasure", 30, kind="erasure"),
    ],
    "purchases": [
        order_at("denies", "o1", 40),
        order_at("gone", "o2", 40),
        order_at("back", "o3", 40),
        order_at("back", "o4", 10),
        order_at("today", "o5", 0.001),
        order_at("buys", "o6", 100),
    ],
    "engagements": [opened_at("denies", "e1", 8), opened_at("buys", "e2", 3)],
}


def records(log: Log) -> list[Record]:
    return [record_of(topic, document) for topic in INPUT_TOPICS for document in log[topic]]


def state_of(worker: Worker) -> PartitionState | None:
    return worker.states().get(0)


def check_small(profiles: dict[str, Document], changes: Sequence[Document]) -> None:
    """Who was erased holds nothing from before, whatever came first; who denies profiling has no standing."""
    assert profiles.keys() == {"denies", "asked again", "back", "today", "buys"}
    assert profiles["denies"]["standing"] == dict.fromkeys(STANDING)
    assert profiles["denies"]["aggregates"]["engagements_90d"] == {}
    assert profiles["denies"]["aggregates"]["order_count"] == 1
    assert profiles["asked again"]["consents"] == {"email": True, "profiling": True}
    assert profiles["back"]["aggregates"]["order_count"] == 1
    entered = {change["customer_id"]: change for change in changes}
    assert entered.keys() == {"asked again", "back", "today", "buys"}
    assert {entered[name]["life"] for name in ("asked again", "back")} == {1}
    assert entered["buys"]["as_of"].endswith("T00:00:00Z")
    assert entered["today"]["as_of"] > entered["buys"]["as_of"]
    assert {(change["direction"], change["reason"]["trigger"]) for change in changes} == {("entered", "load")}


async def test_erasures_act_by_their_date_alone_in_a_restore_too(settings: Settings) -> None:
    """A consent dated after an erasure stays, although it came before it; of who is gone, a hash and the life stay."""
    await make_topics(settings)
    await produce(settings, records(SMALL))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        before = await stored_profiles(settings)
    check_small(before, await changes_of(settings))
    told = [record.key for record in await read_topic(settings, "ebbtide-decisions")]
    assert b"gone" not in told
    assert len({key for key in told if len(key) == 64}) == 3  # HMACs
    assert b"gone" not in {record.key for record in await read_topic(settings, "customer-profiles")}
    empty_redis(settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        assert await stored_profiles(settings) == before
    check_small(before, await changes_of(settings))


async def test_the_start_notes_what_it_loads(settings: Settings) -> None:
    """In the metadata of the committed offsets, for good; and what comes later is live, whatever its date."""
    await make_topics(settings)
    await produce(settings, records(SMALL))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        await produce(settings, [record_of("purchases", order_at("late", "o7", 90))])
        await until_idle(settings, worker)
    committed = await asyncio.to_thread(read_committed_checkpoint, settings, 0)
    assert committed is not None
    assert committed.load == FirstLoad(
        dict.fromkeys(INPUT_TOPICS, 0),
        {topic: len(SMALL[topic]) for topic in INPUT_TOPICS},
        day_of(time.time_ns() // 1_000),
        is_over=True,
    )
    late = [change for change in await changes_of(settings) if change["customer_id"] == "late"]
    assert {(change["direction"], change["reason"]["trigger"]) for change in late} == {
        ("entered", "correction")
    }


async def test_inputs_that_are_empty_are_no_load(settings: Settings) -> None:
    """The first record is live."""
    await make_topics(settings)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        await produce(settings, [record_of("purchases", order_at("first", "o1", 0.001))])
        await until_idle(settings, worker)
    assert {change["reason"]["trigger"] for change in await changes_of(settings)} == {"event"}


async def test_a_record_from_before_the_newest_is_late_in_a_load_too(settings: Settings) -> None:
    """By the same horizons as live."""
    await make_topics(settings)
    log: Log = {
        "consents": [],
        "purchases": [],
        "engagements": [opened_at("c", "e1", 1), opened_at("c", "e2", 40), opened_at("c", "e1", 1)],
    }
    await produce(settings, records(log))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        outcomes = state_of(worker).outcomes  # type: ignore[union-attr]
    assert outcomes == {
        ("engagements", "accepted"): 1,
        ("engagements", "dead_letter"): 1,
        ("engagements", "duplicate"): 1,
    }


def many(customers: int) -> Log:
    names = [f"c{number:03}" for number in range(customers)]
    return {
        "consents": [consent_at(name, f"g-{name}", 50, purpose="email", granted=True) for name in names],
        "purchases": [order_at(name, f"o-{name}", 20) for name in names],
        "engagements": [opened_at(name, f"e-{name}", 2) for name in names],
    }


async def load_up_to(settings: Settings, is_so: Callable[[PartitionState], bool]) -> None:
    """Run a worker that stops after the first micro-batch by which its first load has come so far."""
    run, is_there, may_end = BatchLoop.run, asyncio.Event(), asyncio.Event()

    async def run_and_look(batches: BatchLoop, *arguments: Any) -> Checkpoint:
        checkpoint = await run(batches, *arguments)
        if is_so(batches.state):
            is_there.set()
            await may_end.wait()
        return checkpoint

    with patch.object(BatchLoop, "run", run_and_look):
        async with running(settings) as worker:
            await asyncio.wait_for(is_there.wait(), 60)
            worker.tasks[0].stopping.set()
            may_end.set()
    state = await asyncio.to_thread(meta_of, settings, 0)
    assert state is not None
    assert not state["load"]["is_over"], "too late"


def has_decided(state: PartitionState) -> bool:
    return state.changes > 0


def has_folded(state: PartitionState) -> bool:
    return state.batches >= 3


@pytest.mark.parametrize(
    ("guarantee", "is_so"),
    [
        ("exactly_once", has_decided),
        ("at_least_once", has_folded),
        pytest.param("exactly_once", has_folded, marks=pytest.mark.deep),
        pytest.param("at_least_once", has_decided, marks=pytest.mark.deep),
    ],
)
async def test_another_model_folds_again(
    settings: Settings, tmp_path: Path, guarantee: str, is_so: Callable[[PartitionState], bool]
) -> None:
    """Amounts are converted by the rates of the model that decides; who has been decided on moves by `model` alone."""
    small_batches = {"batch_max_records": 10, "batch_max_customers": 4, "processing_guarantee": guarantee}
    settings = settings.model_copy(update=small_batches)
    await make_topics(settings)
    await produce(settings, records(many(60)))
    await load_up_to(settings, is_so)
    before = {change["customer_id"] for change in await changes_of(settings)}
    assert bool(before) == (is_so is has_decided)
    cheap = {**DEFAULT_MODEL, "name": "cheap", "rates": {"USD": "0.5"}, "base_currency": "EUR"}
    settings = settings.model_copy(update={"model": write_model(tmp_path / "cheap.yaml", cheap)})
    async with running(settings) as worker:
        await until_idle(settings, worker)
        profiles = await stored_profiles(settings)
    changes = await changes_of(settings)
    check_sequences(changes)
    assert {profile["aggregates"]["revenue"] for profile in profiles.values()} == {"10.00"}
    assert {profile["model"]["name"] for profile in profiles.values()} == {"cheap"}
    entered = [change for change in changes if change["direction"] == "entered"]
    assert len(entered) == 3 * 60
    by_first = {change["customer_id"] for change in entered if change["model"]["name"] != "cheap"}
    assert by_first == before
    assert {change["reason"]["trigger"] for change in changes if change not in entered} <= {"model"}


async def test_a_worker_that_loads_is_ready_and_says_so(settings: Settings, tmp_path: Path) -> None:
    """On `/readyz` and in the log; `doctor`, and what reads Redis, when the worker rests in the middle of it."""
    settings = settings.model_copy(update={"batch_max_records": 1, "batch_max_customers": 1})
    await make_topics(settings)
    await produce(settings, records(many(100)))
    answers: list[tuple[int, Document]] = []

    def is_loading() -> bool:
        answer = readiness_of(settings)
        if answer is not None and answer[1]["partitions"].get("0", {}).get("status") == "loading":
            answers.append(answer)
        return bool(answers)

    with worker_process(settings, tmp_path / "worker.log") as worker:
        await worker.until(is_loading, "loading")
        assert worker.terminate() == 0
    ((status, answer),) = answers
    assert (status, answer["ready"]) == (200, True)
    assert "% loaded" in answer["partitions"]["0"]["reason"]
    (said,) = await survey(settings, settings.load_model())
    assert said.status == "ok"
    assert said.message.startswith("its first load: ")
    with pytest.raises(EbbtideError, match="partition 0 is in its first load; try again"):
        await stored_profiles(settings)
    faster = settings.model_copy(update={"batch_max_records": 1_000, "batch_max_customers": 1_000})
    with worker_process(faster, tmp_path / "worker.log") as worker:
        await worker.until(lambda: is_status(settings, "running"), "running")
    assert "first load of 300 records: 0% loaded" in worker.log_text()
    assert "first load done: 100 customers decided on" in worker.log_text()


def is_status(settings: Settings, status: str) -> bool:
    return partitions_of(settings).get(0, {}).get("status") == status


async def test_later_records_wait_for_it(settings: Settings) -> None:
    """One that comes while it is under way is live: it moves who has entered by then."""
    settings = settings.model_copy(update={"batch_max_records": 1, "batch_max_customers": 4})
    await make_topics(settings)
    await produce(settings, records(many(60)))
    async with running(settings) as worker:
        await until(lambda: (state := state_of(worker)) is not None and state.batches >= 2, "loading")
        await produce(settings, [record_of("purchases", order_at("c000", "live", 0.001))])
        assert state_of(worker).status is Status.LOADING  # type: ignore[union-attr]
        await until_idle(settings, worker)
    changes = await changes_of(settings)
    check_sequences(changes)
    of_first = [change["reason"]["trigger"] for change in changes if change["customer_id"] == "c000"]
    assert of_first[:3] == ["load"] * 3
    assert set(of_first[3:]) <= {"event"}
    profiles = await stored_profiles(settings)
    assert profiles["c000"]["aggregates"]["order_count"] == 2


async def test_a_batch_that_cannot_be_read_at_first_costs_the_other_inputs_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the consumer gave of them meanwhile is read again, although the batch is readable at the next look."""
    monkeypatch.setattr(partition_task, "LOOK_AGAIN_S", 0.1)
    examined = fetching._ExaminingClient._examined
    failed: list[int] = []

    async def unreadable_once(
        self: Any, topic: str, partition: int, said: Any, data: Any, positions: Any
    ) -> bytes | None:
        at = positions[topic, partition]
        if topic.endswith("purchases") and at == 0:
            data = data[: 12 + int.from_bytes(data[8:12])]  # the first batch alone
        elif topic.endswith("purchases") and data and not failed:
            failed.append(at)
            why = Unreadable(at, at + 1, "damaged on its way", b"")
            self.errors[TopicPartition(topic, partition)] = UnreadableError(
                TopicPartition(topic, partition), [why]
            )
            return b""
        return await examined(self, topic, partition, said, data, positions)

    monkeypatch.setattr(fetching._ExaminingClient, "_examined", unreadable_once)
    await make_topics(settings)
    log = many(30)
    for portion in (log["purchases"][:10], log["purchases"][10:]):
        await produce(settings, [record_of("purchases", document) for document in portion])
    await produce(settings, records({**log, "purchases": []}))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        outcomes = worker.states()[0].outcomes
        profiles = await stored_profiles(settings)
    assert failed == [10]
    assert outcomes == {(topic, "accepted"): 30 for topic in INPUT_TOPICS}
    assert len(profiles) == 30
    assert {profile["aggregates"]["order_count"] for profile in profiles.values()} == {1}
    assert await read_topic(settings, "dead-letters") == []


async def test_what_is_loaded_counts_as_what_it_is(settings: Settings) -> None:
    """A load's records are counted by what became of them, and its share is told until it is through."""
    await make_topics(settings)
    await produce(settings, records(many(30)))
    async with running(settings) as worker:
        await until_idle(settings, worker)
        state = state_of(worker)
    assert state is not None
    assert sum(count for (_, outcome), count in state.outcomes.items() if outcome == "accepted") == 90
    assert state.loading is None
