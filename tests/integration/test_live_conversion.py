"""`ebbtide convert --topic`, on real Kafka: a Segment topic becomes our inputs, each event once, whoever dies when."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from schemas.dead_letters import MESSAGE_HEADER, OFFSET_HEADER, TOPIC_HEADER
from streams.adapters.conversion import run_conversion
from streams.adapters.converter import Converter
from streams.adapters.live import SOURCE_HEADER, LiveConversion
from streams.adapters.mapping import load_mapping
from streams.console.refusals import Refusals
from streams.settings import Settings
from tests.integration.harness import make_settings, make_topics, read_topic
from tests.services import KafkaService, RedisService

PARTITIONS, SOURCE_PARTITIONS = 3, 2
CUSTOMERS = 30
IN_TIME_S = 60.0

pytestmark = pytest.mark.real_kafka
Sent = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


@pytest.fixture
async def settings(kafka: KafkaService, redis_server: RedisService, unique_prefix: str) -> Settings:
    made = make_settings(kafka.bootstrap_servers, redis_server.url, unique_prefix)
    await make_topics(made, PARTITIONS)
    return made


@pytest.fixture
async def source(settings: Settings) -> str:
    """A topic of another system's events, with fewer partitions than ours."""
    name = f"{settings.topic_prefix}cdp.events"
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await asyncio.to_thread(admin.create_topics, [NewTopic(name, SOURCE_PARTITIONS, 1)])
    admin.close()
    return name


def track(number: int) -> dict[str, Any]:
    """An event of Segment's: most are orders; some are opens, some withdraw consent, some nobody knows."""
    event = {0: "Email Opened", 1: "Unsubscribed", 2: "Wishlist Tidied"}.get(number % 10, "Order Completed")
    return {
        "type": "track",
        "event": event,
        "messageId": f"m{number}",
        "userId": f"c{number % CUSTOMERS}",
        "timestamp": f"2025-0{1 + number % 9}-11T10:00:00.{number % 1_000:03d}Z",
        "properties": {"order_id": f"o{number}", "revenue": 10.1 + number % 7, "currency": "USD"},
    }


async def send(settings: Settings, topic: str, records: list[Sent]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        futures = [
            await producer.send(topic, value, key=key, headers=headers) for key, value, headers in records
        ]
        await asyncio.gather(*futures)


def tracks(count: int) -> list[Sent]:
    """Keyed by nothing that we know, as such topics often are."""
    return [(None, json.dumps(track(number)).encode(), []) for number in range(count)]


async def converted(settings: Settings, topic: str, name: str = "segment") -> LiveConversion:
    """A conversion up to the topic's present end."""
    live = LiveConversion(settings, topic, Converter(load_mapping(name)), ends=True)
    await asyncio.wait_for(live.run(), IN_TIME_S)
    return live


async def records_of(settings: Settings) -> dict[str, list[Any]]:
    return {name: await read_topic(settings, name) for name in ("purchases", "engagements", "consents")}


async def test_a_topic_makes_the_records_that_a_file_makes(
    settings: Settings, source: str, tmp_path: Path
) -> None:
    """The same bytes, keyed by customer, each with the event that it was made of; the rest is counted and told."""
    events = tracks(200)
    bad: list[Sent] = [
        (b"k", b"{no json", []),
        (None, b'{"type":"track","event":"Order Completed"}', []),
        (b"k", None, []),
    ]
    await send(settings, source, [*events, *bad])
    live = await converted(settings, source)
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"".join((value or b"") + b"\n" for _, value, _ in [*events, *bad]))
    of_file = run_conversion(
        [file], Converter(load_mapping("segment")), tmp_path / "out", Refusals("events"), 10**7
    )
    assert live.conversion.records == of_file.records
    assert live.conversion.ignored == of_file.ignored + Counter({"(no value)": 1})
    for topic, records in (await records_of(settings)).items():
        written = (tmp_path / "out" / f"{topic}.jsonl").read_bytes().splitlines()
        assert sorted(record.value for record in records) == sorted(written)
        for record in records:
            assert record.key == json.loads(record.value)["customer_id"].encode()
            assert dict(record.headers)[SOURCE_HEADER].startswith(f"{source}-".encode())
    letters = await read_topic(settings, "dead-letters")
    assert {letter.value for letter in letters} == {b"{no json", bad[1][1]}
    for letter in letters:
        told = dict(letter.headers)
        assert told[MESSAGE_HEADER].startswith(b"segment: ")
        assert told[TOPIC_HEADER] == source.encode()
        assert int(told[OFFSET_HEADER]) >= 0


async def test_a_second_conversion_goes_on_where_the_first_one_stopped(
    settings: Settings, source: str
) -> None:
    """By the offsets that it committed with the records."""
    await send(settings, source, tracks(50))
    first = await converted(settings, source)
    again = await converted(settings, source)
    await send(settings, source, tracks(20))
    third = await converted(settings, source)
    assert [one.conversion.events for one in (first, again, third)] == [50, 0, 20]


async def test_events_of_one_customer_keep_their_order(settings: Settings, source: str) -> None:
    """As far as the source has one: within its partitions."""
    await send(settings, source, [(b"one", value, headers) for _, value, headers in tracks(120)])
    await converted(settings, source)
    offsets: dict[bytes, list[int]] = defaultdict(list)
    for record in await read_topic(settings, "purchases"):
        offsets[record.key].append(int(dict(record.headers)[SOURCE_HEADER].rsplit(b"-", 1)[1]))
    assert len(offsets) > 20
    assert all(own == sorted(own) for own in offsets.values())


async def test_cloud_events_in_binary_mode_have_their_attributes_in_headers(
    settings: Settings, source: str
) -> None:
    """`ce_id` is the event's id, `ce_time` its time and `ce_subject` the customer."""
    data = {"order_id": "o1", "currency": "USD", "total": "12.50", "kind": "order"}
    headers = {
        "ce_id": "e1",
        "ce_type": "purchases",
        "ce_time": "2025-01-09T12:00:00Z",
        "ce_subject": "c9",
        "ce_source": "shop",
        "ce_specversion": "1.0",
    }
    value = json.dumps(data).encode()
    await send(settings, source, [(None, value, [(name, told.encode()) for name, told in headers.items()])])
    live = await converted(settings, source, "cloudevents")
    assert live.conversion.records == {"purchases": 1}, live.conversion
    (record,) = await read_topic(settings, "purchases")
    made = json.loads(record.value)
    assert (made["event_id"], made["customer_id"], made["total"]) == ("e1", "c9", "12.50")


def started(settings: Settings, source: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streams", "convert", "--from", "segment", "--topic", source, *more]
    environment = {**os.environ, **settings.as_environment()}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_whoever_dies_when_each_event_is_converted_once(settings: Settings, source: str) -> None:
    """Two processes share the topic; one is killed, then the other, and a third one finishes."""
    count = 3_000
    feeding = asyncio.create_task(send_slowly(settings, source, count))
    processes = [started(settings, source) for _ in range(2)]
    try:
        for number, process in enumerate(processes):
            await until_made(settings, 300 * (number + 1))
            os.kill(process.pid, signal.SIGKILL)
        await feeding
        done = await asyncio.to_thread(started(settings, source, "--to-end").communicate, timeout=IN_TIME_S)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert b" events: " in done[0], done[1]
    sources = Counter(
        dict(record.headers)[SOURCE_HEADER]
        for records in (await records_of(settings)).values()
        for record in records
    )
    assert set(sources.values()) == {1}, "an event was converted twice"
    assert len(sources) == sum(number % 10 != 2 for number in range(count))


async def test_the_end_is_that_of_all_partitions_also_of_those_that_others_hold(
    settings: Settings, source: str
) -> None:
    """A second process finds one partition or none left to it, and waits for the first one; a marker comes last."""
    process = started(settings, source)
    try:
        async with (
            AIOKafkaProducer(
                bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=f"{source}-sender"
            ) as producer,
            producer.transaction(),
        ):
            for _, value, _ in tracks(30):
                await producer.send(source, value)
        await until_made(settings, 1)
        live = await converted(settings, source)
    finally:
        process.terminate()
        out, _ = await asyncio.to_thread(process.communicate, timeout=IN_TIME_S)
    events = int(out.split(b" ")[0])
    assert live.conversion.events + events == 30
    assert len(await read_topic(settings, "purchases")) == 21


async def send_slowly(settings: Settings, source: str, count: int) -> None:
    events = tracks(count)
    for start in range(0, count, 500):
        await send(settings, source, events[start : start + 500])
        await asyncio.sleep(0.3)


async def until_made(settings: Settings, count: int) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while len(await read_topic(settings, "purchases")) < count:
        assert time.monotonic() < deadline, "nothing was converted"
        await asyncio.sleep(0.1)


async def test_a_signal_ends_it_in_order(settings: Settings, source: str) -> None:
    """It tells what became of the events, and exits with 0."""
    await send(settings, source, tracks(40))
    process = started(settings, source)
    await until_made(settings, 28)
    process.terminate()
    out, errors = await asyncio.to_thread(process.communicate, timeout=IN_TIME_S)
    assert process.returncode == 0, errors
    assert out.startswith(b"40 events: 4 consents, 28 purchases, 4 engagements")
    assert b"4 ignored: 4 Wishlist Tidied" in out


async def test_a_topic_that_is_not_there_is_named(settings: Settings) -> None:
    process = started(settings, f"{settings.topic_prefix}nothing", "--to-end")
    _, errors = await asyncio.to_thread(process.communicate, timeout=IN_TIME_S)
    assert process.returncode == 1
    assert b"there is no topic" in errors
