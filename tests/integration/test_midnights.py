"""Midnights by the wall clock on real Kafka, with a clock of the test's own."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import DEFAULT_MODEL, event_of
from enrichment.days import DAY_US, day_of
from schemas.timestamps import parse_timestamp
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.redis_client import RedisClient
from streams.worker.clock_check import ClockCheck
from streams.worker.publisher import Publisher
from streams.worker.reading.inputs import Inputs
from streams.worker.worker import Worker
from tests.integration.harness import (
    Document,
    changes_of,
    check_sequences,
    make_topics,
    produce,
    record_of,
    running,
    until,
    until_idle,
    write_model,
)

pytestmark = pytest.mark.real_kafka


class SetClock:
    """A clock that stands at so many days from now, and that is trusted, unless told otherwise."""

    def __init__(self, days: float) -> None:
        self.days = days
        self.agrees = True

    def __call__(self) -> int:
        return int((time.time() + self.days * 86_400) * 1_000_000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    chosen = SetClock(0)

    async def trusted_now_us(check: ClockCheck, redis: RedisClient, publisher: Publisher) -> int | None:
        return chosen() if chosen.agrees else None

    monkeypatch.setattr(ClockCheck, "trusted_now_us", trusted_now_us)
    return chosen


def order(event_id: str, days_ago: float, customer_id: str = "c") -> Document:
    """An order so many days before now."""
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    return {
        "event_id": event_id,
        "customer_id": customer_id,
        "occurred_at": moment.isoformat(),
        "kind": "order",
        "order_id": event_id,
        "currency": "USD",
        "total": "20.00",
    }


def lifecycles(changes: list[Document]) -> list[tuple[str | None, str | None]]:
    """The lifecycle's changes: its value, and what triggered it."""
    return [(c["current"], c["reason"]["trigger"]) for c in changes if c["dimension"] == "lifecycle"]


def midnight_of(worker: Worker) -> int:
    checkpoint = worker.states()[0].checkpoint if worker.tasks else None
    return -1 if checkpoint is None else checkpoint.midnight_day


async def passed(worker: Worker, day: int) -> None:
    """Wait until the midnight of a day has passed and all who were due have been looked at."""
    await until(lambda: midnight_of(worker) >= day and worker.is_idle, f"midnight of day {day}")


async def test_a_midnight_on_which_nothing_happens_writes_no_state(
    settings: Settings, clock: SetClock
) -> None:
    """Only when to look again is written, and a worker that begins then goes by it."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order("e1", 1))])
    keys = PartitionKeys.of(settings, 0)
    async with Redis.from_url(settings.redis_url) as redis:
        async with running(settings, clock) as worker:
            await until_idle(settings, worker)
            state, due_day = await redis.get(keys.customer("c")), await redis.zscore(keys.due, "c")
            assert due_day is not None
            clock.days = due_day - day_of(clock())
            await passed(worker, int(due_day))
            put_off_to = await redis.zscore(keys.due, "c")
            assert put_off_to is not None
            assert put_off_to > due_day
            assert await redis.get(keys.customer("c")) == state
        async with running(settings, clock) as worker:
            await produce(settings, [record_of("purchases", order("e2", 0.5))])
            await until_idle(settings, worker)
            assert await redis.get(keys.customer("c")) != state
            clock.days = 400
            await passed(worker, day_of(clock()))
    assert lifecycles(await changes_of(settings))[-1] == ("lapsed", "time")


async def test_an_idle_customer_is_demoted_at_midnights_with_no_event(
    settings: Settings, clock: SetClock
) -> None:
    """As time passes they become at risk, then lapsed, each as of a midnight; nothing else has to come."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order(f"e{days}", days)) for days in (30, 20, 10, 1)])
    async with running(settings, clock) as worker:
        await until_idle(settings, worker)
        entered = len(await changes_of(settings))
        today = day_of(clock())
        for days in (1, 60, 150, 400, 800):
            clock.days = days
            await passed(worker, today + days)
    later = (await changes_of(settings))[entered:]
    check_sequences(await changes_of(settings))
    assert {change["reason"]["trigger"] for change in later} == {"time"}
    assert all(parse_timestamp(change["as_of"]) % DAY_US == 0 for change in later)
    assert lifecycles(later)[-2:] == [("at_risk", "time"), ("lapsed", "time")]


async def test_midnights_missed_while_down_pass_in_order_behind_the_backlog(
    settings: Settings, clock: SetClock
) -> None:
    """A worker that was down for 300 days reads what came in those days before it demotes anyone."""
    await make_topics(settings)
    customers = ("comes back", "stays away")
    await produce(settings, [record_of("purchases", order("e1", 1, customer)) for customer in customers])
    async with running(settings, clock) as worker:
        await until_idle(settings, worker)
        today = day_of(clock())
    first = len(await changes_of(settings))
    await produce(settings, [record_of("purchases", order("e2", 0, "comes back"))])
    clock.days = 300
    async with running(settings, clock) as worker:
        await passed(worker, today + 300)
    later = (await changes_of(settings))[first:]
    check_sequences(await changes_of(settings))
    by_customer: dict[str, list[Any]] = {customer: [] for customer in customers}
    for change in later:
        by_customer[change["customer_id"]].append(change)
    away = by_customer["stays away"]
    assert [change["as_of"] for change in away] == sorted(change["as_of"] for change in away)
    assert {change["reason"]["trigger"] for change in away} == {"time"}
    back = [change for change in by_customer["comes back"] if change["reason"]["trigger"] == "time"]
    assert all(day_of(parse_timestamp(change["as_of"])) > today for change in back)
    assert len({change["as_of"] for change in away}) > 1


async def test_records_of_a_day_that_has_not_begun_by_our_clock_wait_for_its_midnight(
    settings: Settings, clock: SetClock
) -> None:
    """With a clock three days behind the broker's, records wait; the midnights in between come before them."""
    await make_topics(settings)
    clock.days = -3
    async with running(settings, clock) as worker:
        await until(lambda: worker.is_idle, "idle")
        await produce(settings, [record_of("purchases", order("e1", 4))])
        today = day_of(clock())
        await until(lambda: worker.tasks[0].lag({}).get("purchases") == 1, "the record, fetched")
        assert midnight_of(worker) == today
        assert sum(worker.states()[0].outcomes.values()) == 0
        clock.days = 0
        await until_idle(settings, worker)
        assert midnight_of(worker) == today + 3
    changes = await changes_of(settings)
    assert {day_of(parse_timestamp(change["as_of"])) for change in changes} == {today + 3}


async def test_no_midnight_passes_while_the_clocks_disagree(settings: Settings, clock: SetClock) -> None:
    """Records go on being processed; the midnight passes when the clocks agree again."""
    await make_topics(settings)
    async with running(settings, clock) as worker:
        await until(lambda: worker.is_idle, "idle")
        today = day_of(clock())
        clock.days, clock.agrees = 200, False
        await produce(settings, [record_of("purchases", order("e1", 1))])
        await until_idle(settings, worker)
        assert midnight_of(worker) == today
        assert len(lifecycles(await changes_of(settings))) == 1
        clock.agrees = True
        await passed(worker, today + 200)
    assert len(lifecycles(await changes_of(settings))) > 1


def is_told(text: str, words: str, off_s: float) -> bool:
    """Whether the log names a difference of so many seconds, but for how long the answer took."""
    told = re.search(rf"{re.escape(words)} ([\d.]+) s", text)
    return told is not None and abs(float(told[1]) - off_s) < 30


async def test_a_clock_that_is_off_from_redis_raises_an_alarm(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the difference and the setting; oracle: a clock a day ahead is off by 86,400 s."""
    await make_topics(settings)
    ahead = SetClock(1)
    async with running(settings) as worker:
        await until(lambda: worker.is_idle, "idle")
        today = midnight_of(worker)
    with caplog.at_level(logging.ERROR, "streams"):
        async with running(settings, ahead) as worker:
            await until(lambda: worker.is_idle, "idle")
            assert midnight_of(worker) == today
    assert ", more than EBBTIDE_MAX_CLOCK_SKEW_S=30" in caplog.text
    assert is_told(caplog.text, "this clock and Redis' differ by", 86_400)


@pytest.fixture
def redis_follows(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """A clock that Redis goes by too, as on one machine."""
    shared = SetClock(0)

    async def time_of_redis(redis: Redis) -> tuple[int, int]:
        return divmod(shared(), 1_000_000)

    monkeypatch.setattr(Redis, "time", time_of_redis)
    return shared


async def test_a_clock_that_jumps_together_with_redis_demotes_nobody(
    settings: Settings, redis_follows: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    """However far it jumps, no midnight passes until it is back; records go on."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order("e1", 1))])
    async with running(settings, redis_follows) as worker:
        await until_idle(settings, worker)
        today, entered = midnight_of(worker), await changes_of(settings)
        redis_follows.days = 20 * 365
        await produce(settings, [record_of("purchases", order("e2", 0, "another"))])
        await until_idle(settings, worker)
        await until(lambda: is_told(caplog.text, "this clock has jumped by", 20 * 365 * 86_400), "the alarm")
        assert midnight_of(worker) == today
        later = (await changes_of(settings))[len(entered) :]
        assert {change["customer_id"] for change in later} == {"another"}
        redis_follows.days = 0
        await until(lambda: "the clocks agree again" in caplog.text, "agreement")


async def test_where_worker_and_redis_are_years_ahead_of_kafka_no_midnight_passes(
    settings: Settings, redis_follows: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka's stamps tell, also on an idle partition; when the clock is put right, midnights pass again."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order("e1", 1))])
    async with running(settings, redis_follows) as worker:
        await until_idle(settings, worker)
        today, entered = midnight_of(worker), await changes_of(settings)
    redis_follows.days = 2 * 365
    async with running(settings, redis_follows) as worker:
        await until_idle(settings, worker)
        await until(
            lambda: is_told(caplog.text, "this clock and Kafka's differ by", 2 * 365 * 86_400), "the alarm"
        )
        assert midnight_of(worker) == today
        redis_follows.days = 0
        await until(lambda: "the clocks agree again" in caplog.text, "agreement")
    assert await changes_of(settings) == entered


async def test_no_partition_begins_by_a_clock_that_kafka_contradicts(
    settings: Settings, redis_follows: SetClock
) -> None:
    """Its first midnight would lie years ahead, and all customers would enter as of then."""
    await make_topics(settings)
    await produce(settings, [record_of("purchases", order("e1", 1))])
    redis_follows.days = 2 * 365
    async with running(settings, redis_follows) as worker:
        await until(
            lambda: bool(worker.tasks) and "no partition is started" in worker.states()[0].reason, "refused"
        )
        assert await changes_of(settings) == []
        redis_follows.days = 0
        await until_idle(settings, worker)
        assert midnight_of(worker) == day_of(redis_follows())


async def test_a_midnight_waits_for_ends_that_were_asked_for_by_a_trusted_clock(
    settings: Settings, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends asked for by a clock far ahead would stand for every midnight up to there, with records still to come."""
    await make_topics(settings)
    ask, asked_at = Inputs.ask_ends, list[int]()

    async def noted(inputs: Inputs, now_us: int | None, *, with_high: bool) -> None:
        await ask(inputs, now_us, with_high=with_high)
        asked_at.append(inputs.high_asked_at_us)

    monkeypatch.setattr(Inputs, "ask_ends", noted)
    async with running(settings, clock) as worker:
        await until(lambda: worker.is_idle, "idle")
        clock.days, clock.agrees = 3, False
        seen = len(asked_at)
        await until(lambda: len(asked_at) > seen + 2, "asked again")
        assert set(asked_at) == {-1}
        clock.days, clock.agrees = 1, True
        await until(lambda: asked_at[-1] > 0, "asked by a trusted clock")
        assert max(asked_at) <= clock()


async def test_a_clock_that_steps_back_passes_no_midnight_twice_and_loses_none(
    settings: Settings, clock: SetClock
) -> None:
    """Back by days, and forth again; oracle: the core alone, for which midnights only go forward."""
    await make_topics(settings)
    orders = [order("e30", 30), order("e1", 1)]
    oracle = LocalStream(settings.load_model(), namespace=settings.change_namespace)
    oracle.midnight_day = today = day_of(clock())
    oracle.take(*(event_of("purchases", document) for document in orders))
    async with running(settings, clock) as worker:
        await until(lambda: worker.is_idle, "idle")
        await produce(settings, [record_of("purchases", document) for document in orders])
        await until_idle(settings, worker)
        furthest = 0
        for days in (40, 35, 60, 59, 0, 200):
            clock.days, furthest = days, max(furthest, days)
            await passed(worker, today + furthest)
            document = _opened(f"after {days}")
            await produce(settings, [record_of("engagements", document)])
            await until_idle(settings, worker)
            assert midnight_of(worker) == today + furthest
            oracle.pass_midnight(today + furthest)
            oracle.take(event_of("engagements", document))
    assert await changes_of(settings) == oracle.changes
    assert {change["reason"]["trigger"] for change in oracle.changes} > {"time"}


def _opened(event_id: str) -> Document:
    return {
        "event_id": event_id,
        "customer_id": "c",
        "occurred_at": datetime.now(UTC).isoformat(),
        "kind": "opened",
        "channel": "email",
    }


async def test_a_new_model_evaluates_everyone_once_with_trigger_model(
    settings: Settings, clock: SetClock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also those who are silent; a restart with the same model evaluates nobody."""
    path = tmp_path_factory.mktemp("model") / "model.yaml"
    thresholds = {**DEFAULT_MODEL, "version": "2"}
    write_model(path, thresholds)
    await make_topics(settings)
    customers = [f"c{number}" for number in range(5)]
    await produce(settings, [record_of("purchases", order("e1", 1, customer)) for customer in customers])
    async with running(settings, clock) as worker:
        await until_idle(settings, worker)
    before = await changes_of(settings)
    assert {change["model"]["version"] for change in before} == {"1"}
    changed = settings.model_copy(update={"model": path})
    for _ in range(2):
        async with running(changed, clock) as worker:
            await until(lambda: worker.is_idle, "idle")
    later = (await changes_of(settings))[len(before) :]
    assert {change["reason"]["trigger"] for change in later} <= {"model"}
    check_sequences(await changes_of(settings))


async def test_a_model_that_comes_and_goes_leaves_nobody_due(
    settings: Settings, clock: SetClock, tmp_path: Path
) -> None:
    """Whoever is due by the index alone is told so to the index, and the worker comes to rest."""
    await make_topics(settings)
    await produce(
        settings, [record_of("purchases", order(f"e-{number}", 1, f"c-{number}")) for number in range(30)]
    )
    async with running(settings, clock) as worker:
        await until_idle(settings, worker)
    other = write_model(tmp_path / "other.yaml", {**DEFAULT_MODEL, "version": "other"})
    hurried = settings.model_copy(update={"model": other, "batch_max_customers": 1})
    async with running(hurried, clock) as worker:
        await until(
            lambda: bool(worker.tasks) and worker.states()[0].batches >= 3, "some seen by the other model"
        )
    async with running(settings, clock) as worker:
        await until_idle(settings, worker)
        batches = worker.states()[0].batches
        await asyncio.sleep(1)
        assert worker.states()[0].batches == batches
