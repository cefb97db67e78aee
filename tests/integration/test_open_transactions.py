"""Producers of the inputs that use transactions: a midnight waits for what they have open, and is never starved."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from enrichment.days import DAY_US, day_of
from streams.operations import open_transactions
from streams.operations.doctor import check_open_transactions
from streams.settings import Settings
from streams.state.redis_client import RedisClient
from streams.worker import partition_task
from streams.worker.clock_check import ClockCheck
from streams.worker.exposition import Exposition
from streams.worker.publisher import Publisher
from streams.worker.worker import Worker
from tests.integration.harness import Document, Scrape, changes_of, make_topics, running, until
from tests.integration.test_midnights import midnight_of, order

pytestmark = pytest.mark.real_kafka


class SetClock:
    """A trusted clock that is some days ahead of Kafka's: the midnights in between have come."""

    def __init__(self) -> None:
        self.days = 0

    def __call__(self) -> int:
        return int(time.time() * 1_000_000) + self.days * DAY_US


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SetClock:
    chosen = SetClock()

    async def trusted_now_us(check: ClockCheck, redis: RedisClient, publisher: Publisher) -> int | None:
        return chosen()

    monkeypatch.setattr(ClockCheck, "trusted_now_us", trusted_now_us)
    return chosen


@asynccontextmanager
async def transactional(settings: Settings, name: str) -> AsyncIterator[Any]:
    """Somebody else's producer."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"{settings.topic_prefix}{name}",
        transaction_timeout_ms=120_000,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(settings: Settings, producer: Any, document: Document) -> None:
    """One purchase of an open transaction."""
    value, key = orjson.dumps(document), str(document["customer_id"]).encode()
    await producer.send_and_wait(settings.topic("purchases"), value, key=key, partition=0)


def hidden(worker: Worker) -> int:
    """Offsets of purchases that an open transaction hides from the only partition."""
    found = worker.tasks[0].open_transactions().get("purchases") if worker.tasks else None
    return 0 if found is None else found.records


def stands_for_s(worker: Worker) -> float:
    """For how long the only partition has stood before it."""
    return worker.tasks[0].open_transactions()["purchases"].stands_for_s


async def test_a_midnight_waits_for_what_a_foreign_transaction_holds_open(
    settings: Settings, clock: SetClock
) -> None:
    """Another producer's purchases lie behind it: who made them before the midnight must not be demoted at it."""
    await make_topics(settings)
    async with transactional(settings, "shop") as shop, transactional(settings, "other") as other:
        async with shop.transaction():
            for days in (30, 20, 10, 1):
                await send(settings, shop, order(f"e{days}", days))
        async with running(settings, clock) as worker:
            await until(lambda: worker.is_idle, "idle")
            today = day_of(clock())
            await other.begin_transaction()
            await send(settings, other, order("o1", 0, "another"))
            async with shop.transaction():
                await send(settings, shop, order("e0", 0))
            await until(lambda: hidden(worker) > 0, "hidden records")
            clock.days = 2
            stood_s = stands_for_s(worker)
            await until(
                lambda: stands_for_s(worker) > stood_s + 1.0, "several looks after the midnights have come"
            )
            assert midnight_of(worker) == today
            exposed = Scrape((await Exposition(worker).answer(""))[0].decode())
            assert exposed.sum("ebbtide_open_transaction_records", topic="purchases") >= 2
            await other.abort_transaction()
            await until(lambda: midnight_of(worker) == today + 2 and worker.is_idle, "both midnights")
            assert hidden(worker) == 0


async def test_a_midnight_is_not_starved_by_producers_that_always_have_one_open(
    settings: Settings, clock: SetClock
) -> None:
    """Two producers take turns, so that the log never ends with a settled transaction; midnights pass all the same."""
    await make_topics(settings)
    async with (
        transactional(settings, "a") as first,
        transactional(settings, "b") as second,
        running(settings, clock) as worker,
    ):
        await until(lambda: worker.is_idle, "idle")
        today = day_of(clock())
        clock.days = 3
        at, producers = 0, [first, second]
        await first.begin_transaction()
        await send(settings, first, order("o0", 0))
        while midnight_of(worker) < today + 3:
            at += 1
            await producers[at % 2].begin_transaction()
            await send(settings, producers[at % 2], order(f"o{at}", 0))
            await producers[(at - 1) % 2].commit_transaction()
            assert at < 500, f"{midnight_of(worker) - today} of 3 midnights after {at} transactions"
        await producers[at % 2].commit_transaction()


async def test_a_limit_lets_midnights_pass_before_a_transaction_that_never_ends(
    settings: Settings, clock: SetClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then the log says which input waits, and at which offset; what is committed later counts as it comes."""
    monkeypatch.setattr(partition_task, "OPEN_TRANSACTION_S", 0.5)
    limited = settings.model_copy(update={"open_transaction_wait_h": 2 / 3_600})
    await make_topics(limited)
    async with transactional(limited, "shop") as shop:
        await shop.begin_transaction()
        await send(limited, shop, order("o1", 0))
        with caplog.at_level(logging.ERROR):
            async with running(limited, clock) as worker:
                await until(lambda: hidden(worker) > 0, "hidden records")
                today = day_of(clock())
                clock.days = 1
                await until(lambda: midnight_of(worker) == today + 1, "the midnight")
                await shop.commit_transaction()
                await until(lambda: hidden(worker) == 0 and worker.is_idle, "idle")
    (said,) = [record.getMessage() for record in caplog.records if "open transaction" in record.getMessage()]
    assert f"{limited.topic('purchases')} has an open transaction at offset 0" in said
    assert {change["customer_id"] for change in await changes_of(limited)} == {"c"}


async def test_doctor_names_the_producer_and_the_command_that_aborts_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning at first, and an error once it has been open for long; nothing when it has ended."""
    await make_topics(settings)
    async with transactional(settings, "shop") as shop:
        await shop.begin_transaction()
        await send(settings, shop, order("o1", 0))
        await send(settings, shop, order("o2", 0))
        (found,) = await asyncio.to_thread(check_open_transactions, settings)
        producer_id, _ = shop._txn_manager._pid_and_epoch
        topic = settings.topic("purchases")
        assert found.status == "warning"
        assert f"{topic} partition 0: a transaction has been open for " in found.message
        assert (
            f"at offset 0 (producer id {producer_id}, transactional id {settings.topic_prefix}shop)"
            in found.message
        )
        servers, place = settings.kafka_bootstrap_servers, f"--topic {topic} --partition 0 --start-offset 0"
        assert found.message.endswith(f"kafka-transactions.sh --bootstrap-server {servers} abort {place}")
        monkeypatch.setattr(open_transactions, "LONG_OPEN_S", 1.0)
        (found,) = await asyncio.to_thread(check_open_transactions, settings)
        assert found.status == "error"
        await shop.abort_transaction()
    assert await asyncio.to_thread(check_open_transactions, settings) == []


async def test_doctor_says_nothing_of_transactions_that_end_by_themselves(settings: Settings) -> None:
    """A busy producer has one open at each look, and it is another one."""
    await make_topics(settings)
    async with transactional(settings, "busy") as busy:
        looking = asyncio.create_task(asyncio.to_thread(check_open_transactions, settings))
        for number in range(10_000):
            async with busy.transaction():
                await send(settings, busy, order(f"o{number}", 0))
            if looking.done():
                break
        assert await looking == []
