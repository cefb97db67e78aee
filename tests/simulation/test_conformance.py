"""The simulated Kafka does what Apache Kafka does, as far as transactions and what readers see of them go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from ebbtide.testing.simulation.clients import Servers, SimulatedClients, Wires
from ebbtide.testing.simulation.kafka import Kafka, Log
from ebbtide.testing.simulation.loop import run
from ebbtide.testing.simulation.process import Network, NoFaults, Process
from ebbtide.testing.simulation.redis import RedisServer
from schemas.topics import INPUT_TOPICS
from streams.kafka.clients import Producer
from streams.kafka.topics import TOPICS as ALL_TOPICS
from streams.settings import Settings
from streams.worker.clients import Clients, RealClients
from streams.worker.restoring.restore import read_between
from tests.integration.harness import make_settings, make_topics
from tests.services import KafkaService

OUTPUT = "segment-changes"
Told = list[object]
Script = Callable[[Clients, Settings, Told], Awaitable[None]]


async def producer_of(clients: Clients, transactional_id: str = "conformance") -> Producer:
    """A producer that has fenced whoever had the id before."""
    producer = clients.producer(transactional_id=transactional_id)
    await producer.start()
    await producer.begin_transaction()
    await producer.abort_transaction()
    return producer


async def send(producer: Producer, settings: Settings, value: bytes) -> None:
    """One record, awaited."""
    await (await producer.send(settings.topic(OUTPUT), partition=0, key=b"k", value=value))


async def commit_offsets(producer: Producer, settings: Settings, offset: int, metadata: str) -> None:
    """An offset for each input in the transaction that is open."""
    offsets = {
        TopicPartition(settings.topic(topic), 0): OffsetAndMetadata(offset, metadata)
        for topic in INPUT_TOPICS
    }
    await producer.send_offsets_to_transaction(offsets, settings.group_id)


async def settle(clients: Clients) -> None:
    """Wait until every partition knows how the last transaction ended: before that, nobody is given the id."""
    await (await producer_of(clients)).stop()


async def visible(clients: Clients, settings: Settings) -> list[bytes | None]:
    """What a read_committed reader sees, up to the last stable offset."""
    tp = TopicPartition(settings.topic(OUTPUT), 0)
    consumer = clients.consumer(group_id=None, isolation_level="read_committed")
    await consumer.start()
    try:
        end = (await consumer.end_offsets([tp]))[tp]
    finally:
        await consumer.stop()
    return [record.value async for records in read_between(clients, tp, 0, end) for record in records]


async def committed(clients: Clients) -> list[tuple[int, str] | None]:
    """The group's stable offsets."""
    found = await clients.committed_offsets(0)
    return [
        None if (said := found[topic]) is None else (said.offset, said.metadata) for topic in INPUT_TOPICS
    ]


async def outcome_of(doing: Awaitable[Any]) -> str:
    """The name of the error that something ends with, or `done`."""
    try:
        await doing
    except Exception as error:
        return type(error).__name__
    return "done"


async def a_commit_shows_records_and_offsets_together(
    clients: Clients, settings: Settings, told: Told
) -> None:
    producer = await producer_of(clients)
    await producer.begin_transaction()
    await send(producer, settings, b"one")
    await commit_offsets(producer, settings, 5, "micro-batch 1")
    told += [await visible(clients, settings)]
    await producer.commit_transaction()
    await settle(clients)
    told += [await committed(clients), await visible(clients, settings)]
    await producer.stop()


async def an_abort_leaves_nothing(clients: Clients, settings: Settings, told: Told) -> None:
    producer = await producer_of(clients)
    await producer.begin_transaction()
    await send(producer, settings, b"one")
    await commit_offsets(producer, settings, 5, "micro-batch 1")
    await producer.abort_transaction()
    await producer.begin_transaction()
    await send(producer, settings, b"two")
    await producer.commit_transaction()
    await settle(clients)
    told += [await committed(clients), await visible(clients, settings)]
    await producer.stop()


async def a_new_owner_fences_the_old_one_and_settles_its_transaction(
    clients: Clients, settings: Settings, told: Told
) -> None:
    old = await producer_of(clients)
    await old.begin_transaction()
    await send(old, settings, b"of the old")
    await commit_offsets(old, settings, 5, "micro-batch 1")
    new = await producer_of(clients)
    told += [await committed(clients), await visible(clients, settings)]
    told += [await outcome_of(commit_offsets(old, settings, 6, "micro-batch 2"))]
    await new.begin_transaction()
    await send(new, settings, b"of the new")
    await commit_offsets(new, settings, 6, "micro-batch 1 again")
    await new.commit_transaction()
    await settle(clients)
    told += [await committed(clients), await visible(clients, settings)]
    await new.stop()


async def a_commit_under_way_is_settled_before_the_next_owner_begins(
    clients: Clients, settings: Settings, told: Told
) -> None:
    old = await producer_of(clients)
    for number in range(5):
        await old.begin_transaction()
        await send(old, settings, b"%d" % number)
        await commit_offsets(old, settings, number, "step")
        await old.commit_transaction()
        new = await producer_of(clients)
        told += [await committed(clients), await visible(clients, settings)]
        await old.stop()
        old = new
    await old.stop()


SCRIPTS: tuple[Script, ...] = (
    a_commit_shows_records_and_offsets_together,
    an_abort_leaves_nothing,
    a_new_owner_fences_the_old_one_and_settles_its_transaction,
    a_commit_under_way_is_settled_before_the_next_owner_begins,
)


async def on_the_simulation(script: Script, settings: Settings) -> Told:
    """What the script tells of the simulated Kafka."""
    rng, told = random.Random(0), Told()
    kafka = Kafka(rng, lambda: 0)
    for topic in ALL_TOPICS:
        kafka.logs[TopicPartition(settings.topic(topic.name), 0)] = Log()
    wires = Wires(
        Process("worker", rng, Network(), NoFaults()), kafka, RedisServer(lambda: 0.0), rng, Servers()
    )
    await script(SimulatedClients(wires, settings, 1, lambda: 0), settings, told)
    return told


async def on_apache_kafka(script: Script, settings: Settings) -> Told:
    """What the script tells of the real one."""
    told = Told()
    await make_topics(settings)
    await script(RealClients(settings), settings, told)
    return told


@pytest.mark.real_kafka
@pytest.mark.xdist_group("conformance")  # they share a transactional id, and would fence each other
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__.replace("_", " "))
def test_the_simulated_kafka_answers_as_the_real_one_does(
    kafka: KafkaService, unique_prefix: str, script: Script
) -> None:
    """The same requests, the same answers, through the interfaces that the worker uses."""
    settings = make_settings(kafka.bootstrap_servers, "redis://127.0.0.1:1/0", unique_prefix)
    real = asyncio.run(on_apache_kafka(script, settings))
    assert run(on_the_simulation(script, settings)) == real
    assert real
