"""Bad input through real Kafka: each record ends as the contract's table says, and the one after it is processed."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from streams.kafka.size_limits import TRUNCATED_HEADER
from tests.integration.corpus import AFTERWARDS, EXAMPLES, TAKEN, Example, document_of
from tests.integration.harness import (
    Document,
    Record,
    make_settings,
    make_topics,
    partition_of,
    produce,
    read_topic,
    record_of,
    running,
    stored_profiles,
    until_idle,
)
from tests.services import KafkaService, RedisService

PARTITIONS = 3
ERRORS = "__streams.errors."

pytestmark = [pytest.mark.real_kafka, pytest.mark.xdist_group("bad input")]


@dataclass
class Outcome:
    """What one worker made of all examples at once."""

    prefix: str = ""
    sent: dict[str, tuple[Record, int]] = field(default_factory=dict)
    dead_letters: dict[tuple[str, int, int], list[ConsumerRecord]] = field(default_factory=dict)
    profiles: dict[str, Document] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def outcome(kafka: KafkaService, redis_server: RedisService) -> Outcome:
    """All examples, sent and processed; each test looks at one."""
    found = Outcome(prefix=f"t{uuid.uuid4().hex[:10]}-")
    if kafka.is_real:
        asyncio.run(_process(kafka, redis_server, found))
    return found


async def _process(kafka: KafkaService, redis_server: RedisService, found: Outcome) -> None:
    settings = make_settings(kafka.bootstrap_servers, redis_server.url, found.prefix, batch_max_records=50)
    await make_topics(settings, PARTITIONS)
    records, ends = [], dict[tuple[str, int], int]()
    for example in EXAMPLES:
        own = example.records()
        for at, record in enumerate(own):
            placed = record._replace(partition=partition_of(example.customer.encode(), PARTITIONS))
            offset = ends.get((placed.topic, placed.partition), 0)
            ends[placed.topic, placed.partition] = offset + 1
            records.append(placed)
            if at == len(own) - 2:
                found.sent[example.name] = placed, offset
    await produce(settings, records)
    async with running(settings) as worker:
        await until_idle(settings, worker)
        for state in worker.states().values():
            for (_, name), count in state.outcomes.items():
                found.outcomes[name] = found.outcomes.get(name, 0) + count
    for letter in await read_topic(settings, "dead-letters"):
        headers = _headers(letter)
        origin = headers["topic"], int(headers["partition"]), int(headers["offset"])
        found.dead_letters.setdefault(origin, []).append(letter)
    found.profiles = await stored_profiles(settings)


def _headers(record: ConsumerRecord) -> dict[str, str]:
    return {name.removeprefix(ERRORS): value.decode() for name, value in record.headers}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_a_record_ends_as_the_table_says_and_the_next_of_its_customer_is_processed(
    example: Example, outcome: Outcome
) -> None:
    """The dead letter has the bytes and key that came, where they came from, and the field's path; a good one none."""
    record, offset = outcome.sent[example.name]
    topic = f"{outcome.prefix}{example.topic}"
    letters = outcome.dead_letters.get((topic, record.partition, offset), [])
    if example.reason is None:
        assert letters == []
    else:
        (letter,) = letters
        headers = _headers(letter)
        assert (letter.value, letter.key, letter.partition) == (record.value, record.key, record.partition)
        assert headers.pop("message").startswith(f"{example.path}: ")
        assert headers == {
            "exception": example.reason,
            "topic": topic,
            "partition": str(record.partition),
            "offset": str(offset),
        }
    assert outcome.profiles[example.customer]["traits"]["attributes"] == TAKEN


def test_every_record_is_counted_by_what_became_of_it(outcome: Outcome) -> None:
    """Accepted, duplicate and dead-letter records add up; oracle: the examples' own account of themselves."""
    dead = sum(example.reason is not None for example in EXAMPLES)
    duplicates = sum(example.outcome == "duplicate" for example in EXAMPLES)
    sent = sum(len(example.records()) for example in EXAMPLES)
    expected = {"dead_letter": dead, "duplicate": duplicates, "accepted": sent - dead - duplicates}
    assert outcome.outcomes == expected
    assert sum(map(len, outcome.dead_letters.values())) == dead


async def test_a_record_that_only_compression_got_through_holds_up_nobody(
    kafka: KafkaService, redis_server: RedisService, unique_prefix: str
) -> None:
    """Its dead letter, uncompressed, is more than the topic takes: it keeps its beginning, and the next goes on."""
    settings = make_settings(kafka.bootstrap_servers, redis_server.url, unique_prefix)
    await make_topics(settings)
    value = b" " * 6_000_000
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, compression_type="gzip", max_request_size=8_000_000
    )
    async with producer:
        await producer.send_and_wait(settings.topic("purchases"), value, b"c", 0)
    good = document_of("purchases", "c", AFTERWARDS["purchases"])
    await produce(settings, [record_of("purchases", good)])
    async with running(settings) as worker:
        await until_idle(settings, worker)
    (letter,) = await read_topic(settings, "dead-letters")
    assert letter.value is not None
    assert value.startswith(letter.value)
    assert len(letter.value) > 4_000_000
    assert dict(letter.headers)[TRUNCATED_HEADER] == b"6000000"
    assert _headers(letter)["exception"] == "OutOfRange"
    assert sorted(await stored_profiles(settings)) == ["c"]
