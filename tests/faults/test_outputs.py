"""Output topics that somebody deletes and creates anew while workers publish to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.case import FaultCase
from tests.faults.workload import PARTITIONS
from tests.integration.harness import Document, WorkerProcess, changes_of

pytestmark = [pytest.mark.real_kafka, pytest.mark.timeout(900)]

CHANGES = "segment-changes"
SETTLED_AFTER_S = 1.0


@pytest.mark.fault_case("output", "segment-changes deleted and created anew")
def test_an_output_that_comes_back_empty_has_all_that_is_published_from_then_on(case: FaultCase) -> None:
    """What had been published there is gone from Kafka, so the reader has read it before; the rest follows on it."""
    case.begin()
    before = 0
    with case.worker() as worker:
        for _ in range(case.choose(full=3, short=1)):
            case.until_batches(8, worker)
            with stopped_outside_transactions(case, worker):
                before, had_before = len(case.seen().changes), before
                assert before > had_before
                case.assert_mid_stream()
                case.create_output_anew(CHANGES)
                assert end_of(case, "read_uncommitted") == [0] * PARTITIONS
            case.injected()
            case.until(lambda: len(case.seen().changes) > before, "changes in the new topic", worker)  # noqa: B023
        case.finish(worker)
    assert by_id(asyncio.run(changes_of(case.own_settings))) == by_id(case.seen().changes[before:])
    case.check()


def by_id(changes: list[Document]) -> list[Document]:
    return sorted(changes, key=lambda change: str(change["change_id"]))


@contextmanager
def stopped_outside_transactions(case: FaultCase, worker: WorkerProcess) -> Iterator[None]:
    """Stop a worker inside the block, at an instant at which no change of its waits for a commit.

    What is deleted with a topic in mid-transaction is lost, whoever publishes it.
    """
    for _ in range(100):
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            time.sleep(SETTLED_AFTER_S)
            if end_of(case, "read_committed") == end_of(case, "read_uncommitted"):
                yield
                return
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        case.until_batches(1, worker)
    raise AssertionError("it was never stopped between two transactions")


def end_of(case: FaultCase, isolation_level: str) -> list[int]:
    """Where each partition of the changes ends for such a reader."""

    async def ask() -> list[int]:
        topic = case.own_settings.topic(CHANGES)
        tps = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        async with AIOKafkaConsumer(
            bootstrap_servers=case.own_settings.kafka_bootstrap_servers, isolation_level=isolation_level
        ) as consumer:
            ends = await consumer.end_offsets(tps)
        return [ends[tp] for tp in tps]

    return asyncio.run(ask())
