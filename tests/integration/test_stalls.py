"""A partition that would wait for ever, although everything answers, says so and takes over anew.

What makes it wait is made by hand: which client of Kafka stops answering, and when, cannot be had on demand.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.fetch import FetchRequest
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.checkpoint import Checkpoint
from streams.settings import Settings
from streams.state import redis_client
from streams.worker import batch_loop
from streams.worker.batch_loop import BatchLoop
from streams.worker.clients import RealClients
from streams.worker.reading import silence
from streams.worker.reading.inputs import Inputs
from streams.worker.recovery import Recovery
from streams.worker.worker import Worker
from tests.integration.harness import (
    Record,
    make_topics,
    paused,
    produce,
    real_clients,
    records_of,
    running,
    until,
    until_idle,
)
from tests.oracles.seeded_log import SeededLog, make_log
from tests.services import OwnRedis

pytestmark = pytest.mark.real_kafka


@pytest.fixture
def settings(seeded_settings: Settings) -> Settings:
    return seeded_settings.model_copy(
        update={"clock": "event", "batch_max_records": 100, "publish_timeout_s": 2.0}
    )


@pytest.fixture
def records() -> list[Record]:
    log: SeededLog = make_log(1)
    return records_of(log)


def fetcher_of(worker: Worker) -> Any:
    """Aiokafka's own part of the only partition's consumer."""
    reading = worker.tasks[0]._inputs
    assert reading is not None
    return reading._consumer._fetcher  # type: ignore[attr-defined]


async def never_answer_fetches(client: Any) -> None:
    """Let a client of aiokafka wait for ever for the answer to a fetch, and for that to nothing else.

    Returns once a fetch waits: the one that was under way before may still have been answered.
    """
    send, waits = client.send, asyncio.Event()

    async def send_some(node_id: int, request: Any, **more: Any) -> Any:
        if isinstance(request, FetchRequest):
            waits.set()
            await asyncio.Event().wait()
        return await send(node_id, request, **more)

    client.send = send_some
    await asyncio.wait_for(waits.wait(), 30.0)


def refuse_fetches_at_the_end(consumer: Any) -> None:
    """Let fetches wait to be tried again while the consumer is stopped, as where their broker has just died."""
    stop = consumer.stop

    async def refuse_and_stop() -> None:
        send = consumer._client.send

        async def send_some(node_id: int, request: Any, **more: Any) -> Any:
            if isinstance(request, FetchRequest):
                raise NodeNotReadyError("away")
            return await send(node_id, request, **more)

        consumer._client.send = send_some
        await asyncio.sleep(0.5)
        await stop()

    consumer.stop = refuse_and_stop


async def test_a_first_start_goes_on_whose_reader_of_decisions_ends_as_if_cancelled(
    settings: Settings, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `stop` of aiokafka raises CancelledError while a fetch waits; it may not end the partition's task."""
    make = RealClients.consumer

    def make_refused(self: RealClients, **chosen: Any) -> Any:
        consumer = make(self, **chosen)
        if "client_id" not in chosen:
            refuse_fetches_at_the_end(consumer)
        return consumer

    monkeypatch.setattr(RealClients, "consumer", make_refused)
    await make_topics(settings)
    await produce(settings, records)
    async with running(settings) as worker:
        await until_idle(settings, worker, 60.0)


async def test_a_cancellation_that_nobody_asked_for_is_an_error(
    settings: Settings,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever it comes from, the partition is taken over again; one that was asked for ends it."""
    recovery = Recovery.run
    cancelled: list[bool] = []

    async def cancel_once(self: Recovery) -> Checkpoint:
        if not cancelled:
            cancelled.append(True)
            raise asyncio.CancelledError
        return await recovery(self)

    monkeypatch.setattr(Recovery, "run", cancel_once)
    await make_topics(settings)
    await produce(settings, records)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        run = worker._runs[0]
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert "ended as if cancelled; taking over again" in caplog.text


@pytest.mark.parametrize(
    "is_dead",
    [pytest.param(True, marks=pytest.mark.deep), False],
    ids=["ended", "waiting for ever"],
)
async def test_an_input_that_is_fetched_no_more_is_read_through_other_connections(
    settings: Settings,
    records: list[Record],
    is_dead: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is raised then by aiokafka: its fetches have ended, or one never does and holds up all others."""
    monkeypatch.setattr(silence, "DOUBTFUL_AFTER_S", 0.5)
    monkeypatch.setattr(silence, "STALLED_AFTER_S", 1.0)
    await make_topics(settings)
    async with running(settings) as worker:
        await produce(settings, records[: len(records) // 2])
        await until_idle(settings, worker)
        fetcher = fetcher_of(worker)
        if is_dead:
            fetcher._fetch_task.cancel()
        else:
            await never_answer_fetches(fetcher._client)
        await produce(settings, records[len(records) // 2 :])
        await until_idle(settings, worker)
        assert fetcher_of(worker) is not fetcher
    assert "though it ends at" in caplog.text
    assert "StalledError" in caplog.text


async def test_a_redis_that_sleeps_becomes_an_error(
    own_redis: OwnRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked of it: nothing waits for it, for it may never wake."""
    monkeypatch.setattr(redis_client, "ANSWER_TIMEOUT_S", 0.05)
    async with redis_client.connect(Settings(redis_url=own_redis.url)) as redis:
        assert await redis.set("key", "value")
        with paused(own_redis.pid), pytest.raises(RedisTimeoutError):
            async with asyncio.timeout(60):
                await redis.get("key")


async def test_an_input_at_its_end_is_no_stall(
    settings: Settings,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However long nothing comes."""
    await make_topics(settings)
    await produce(settings, records)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        fetcher = fetcher_of(worker)
        monkeypatch.setattr(silence, "DOUBTFUL_AFTER_S", 0.1)
        monkeypatch.setattr(silence, "STALLED_AFTER_S", 0.2)
        await asyncio.sleep(2.0)
        assert fetcher_of(worker) is fetcher
    assert "StalledError" not in caplog.text


async def test_a_micro_batch_that_hangs_ends_with_an_error(
    settings: Settings,
    records: list[Record],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Wherever it hangs, the partition is taken over again, and goes on."""
    monkeypatch.setattr(batch_loop, "BATCH_TIMEOUT_S", 1.0)
    finish = BatchLoop._finish
    hung: list[bool] = []

    async def hang_once(self: BatchLoop, *arguments: Any) -> None:
        if not hung:
            hung.append(True)
            await asyncio.Event().wait()
        await finish(self, *arguments)

    monkeypatch.setattr(BatchLoop, "_finish", hang_once)
    await make_topics(settings)
    await produce(settings, records)
    async with running(settings) as worker:
        await until_idle(settings, worker)
    assert re.search(r"micro-batch 1: no end within \d+ s; taking over again", caplog.text)


async def test_a_consumer_that_stops_while_its_broker_is_away_leaves_no_connection(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The `stop` of aiokafka ends halfway where a fetch waits to be tried again."""
    caplog.set_level(logging.CRITICAL, "aiokafka")
    await make_topics(settings)
    async with real_clients(settings) as clients:
        reading = Inputs(settings, clients, 0, settings.load_model())
        await reading.open()
        consumer: Any = reading._consumer
        client = consumer._client

        async def refuse(*arguments: Any, **more: Any) -> None:
            raise NodeNotReadyError("away")

        client.send = refuse
        reading.seek(dict.fromkeys(reading.buffers, 0))
        await until(lambda: bool(consumer._fetcher._in_flight), "a fetch that waits to be tried again")
        await asyncio.sleep(0)
        connections, asking = list(client._conns.values()), client._sync_task
        assert connections
        await reading.close()
        assert asking.done()
        assert not any(connection.connected() for connection in connections)


async def test_a_worker_whose_supervisor_ends_by_an_error_has_failed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could begin no partition any more: `/healthz` and the log say so."""

    def fail(self: Worker) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(Worker, "_check_partitions", fail)
    await make_topics(settings)
    async with running(settings) as worker:
        await until(lambda: worker.failure is not None, "a failure")
        assert worker.failure == "ebbtide-supervisor ended: RuntimeError: no"
