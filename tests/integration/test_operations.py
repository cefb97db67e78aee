"""`ebbtide dlq` and `ebbtide erase`, on real Kafka; what they send is then taken by a real worker."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from kafka import KafkaAdminClient

from ebbtide.testing.records import DEFAULT_MODEL
from schemas.dead_letters import headers
from schemas.rejection import Rejection
from streams.cli.commands import main
from streams.kafka.size_limits import TRUNCATED_HEADER
from streams.kafka.topics import INPUT_MAX_MESSAGE_BYTES
from streams.operations import dead_letters
from streams.operations.dead_letters import REDRIVEN_HEADER
from streams.settings import Settings
from tests.integration.harness import (
    Document,
    Record,
    changes_of,
    make_settings,
    make_topics,
    produce,
    read_topic,
    record_of,
    run_to_the_end,
    stored_profiles,
    write_model,
)
from tests.services import KafkaService, RedisService

PARTITIONS = 3
NOON = "2025-01-09T12:00:00Z"

pytestmark = pytest.mark.real_kafka
Ebbtide = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
async def settings(kafka: KafkaService, redis_server: RedisService, unique_prefix: str) -> Settings:
    """Of a group with the built-in model, and its topics."""
    made = make_settings(kafka.bootstrap_servers, redis_server.url, unique_prefix)
    await make_topics(made, PARTITIONS)
    return made


@pytest.fixture
def ebbtide(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ebbtide:
    """A command line with these settings: exit code, lines of output and of errors."""
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        capsys.readouterr()
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


def order(customer: str, event_id: str, currency: str = "USD") -> Document:
    """An order of 10 on 9 January 2025."""
    return {
        "event_id": event_id,
        "customer_id": customer,
        "occurred_at": NOON,
        "kind": "order",
        "order_id": f"o-{event_id}",
        "currency": currency,
        "total": "10.00",
    }


def purchases(*documents: Document) -> list[Record]:
    """Records in the partition of their key."""
    return [record_of("purchases", document, PARTITIONS) for document in documents]


def revenue(profile: Document) -> str:
    return str(profile["aggregates"]["revenue"])


async def ask(ebbtide: Ebbtide, *arguments: str) -> tuple[int, list[str], list[str]]:
    """A command, in a thread of its own, since it has an event loop of its own."""
    return await asyncio.to_thread(ebbtide, *arguments)


async def letters_of(ebbtide: Ebbtide, *options: str) -> list[Document]:
    code, lines, _ = await ask(ebbtide, "dlq", "list", "--json", *options)
    assert code == 0
    return [json.loads(line) for line in lines]


async def test_dead_letters_are_listed_with_where_they_came_from_and_why(
    settings: Settings, ebbtide: Ebbtide
) -> None:
    """One line each, and how many of which reason; JSON has the bytes; options choose."""
    bad = Record("engagements", b"c2", b"{", 1)
    await produce(settings, [*purchases(order("c1", "e1", "EUR"), order("c1", "e2")), bad])
    await run_to_the_end(settings)

    found = await letters_of(ebbtide)
    by_reason = {letter["reason"]: letter for letter in found}
    assert sorted(by_reason) == ["Malformed", "UnknownCurrency"]
    malformed = by_reason["Malformed"]
    assert (malformed["topic"], malformed["partition"], malformed["offset"]) == (
        settings.topic("engagements"),
        1,
        0,
    )
    assert base64.b64decode(malformed["value_base64"]) == bad.value
    assert base64.b64decode(malformed["key_base64"]) == bad.key
    assert by_reason["UnknownCurrency"]["message"].startswith("currency: ")

    code, lines, errors = await ask(ebbtide, "dlq", "list")
    assert (code, errors) == (0, [])
    assert lines[-1] == "2 dead letters: 1 UnknownCurrency, 1 Malformed" or lines[-1] == (
        "2 dead letters: 1 Malformed, 1 UnknownCurrency"
    )
    for letter in found:
        (line,) = (line for line in lines[:-1] if line.split()[0] == letter["dead_letter"])
        assert f"{letter['topic']} {letter['partition']}:{letter['offset']}" in line
        assert line.endswith(f"{letter['reason']:<15}  {letter['message']}")

    assert await letters_of(ebbtide, "--topic", "engagements") == [malformed]
    assert await letters_of(ebbtide, "--reason", "Malformed") == [malformed]
    assert await letters_of(ebbtide, "--until", "2025-01-09") == []
    assert len(await letters_of(ebbtide, "--since", "2025-01-09")) == 2


async def test_a_list_of_dead_letters_shows_control_characters(settings: Settings, ebbtide: Ebbtide) -> None:
    """A message quotes kinds as producers wrote them; anyone may write into `dead-letters`. One line each."""
    evil = "\x1b]0;owned\x07\nerror\u202e"
    odd = {"event_id": "e1", "customer_id": "c1", "occurred_at": NOON, "kind": evil}
    await produce(settings, [record_of("engagements", odd, PARTITIONS)])
    await run_to_the_end(settings)
    await write_letters(settings, [(b"k", b"v", headers(Rejection("Malformed", evil), evil, 0, 0))])
    for more, shown in (
        ((), r"\x1b]0;owned\x07\nerror\u202e"),
        (("--json",), r"\u001b]0;owned\u0007\nerror\u202e"),
    ):
        code, lines, _ = await ask(ebbtide, "dlq", "list", *more)
        assert code == 0
        assert len(lines) == (2 if more else 3)
        assert not any(character in line for line in lines for character in "\x1b\x07\u202e")
        assert any(shown in line for line in lines)


async def test_what_is_redriven_counts_once_when_the_model_takes_it(
    settings: Settings, ebbtide: Ebbtide, tmp_path: Path
) -> None:
    """Also when it is sent twice; the oracle is the sum of the orders. What is still bad is refused again."""
    await produce(
        settings,
        [*purchases(order("c1", "e1"), order("c1", "e2", "EUR")), Record("purchases", b"c1", b"{", 0)],
    )
    await run_to_the_end(settings)
    assert revenue((await stored_profiles(settings))["c1"]) == "10.00"

    code, lines, _ = await ask(ebbtide, "dlq", "redrive", "--dry-run")
    assert (code, lines) == (0, [f"2 records would be sent: 2 to {settings.topic('purchases')}"])
    code, lines, _ = await ask(ebbtide, "dlq", "redrive", "--reason", "UnknownCurrency")
    assert (code, lines) == (0, [f"1 record sent: 1 to {settings.topic('purchases')}"])
    code, _, _ = await ask(ebbtide, "dlq", "redrive")
    assert code == 0

    model = write_model(tmp_path / "model.yaml", {**DEFAULT_MODEL, "rates": {"EUR": "2"}})
    await run_to_the_end(settings.model_copy(update={"model": model}))
    assert revenue((await stored_profiles(settings))["c1"]) == "30.00"
    found = await letters_of(ebbtide)
    assert sorted(letter["reason"] for letter in found) == ["Malformed", "Malformed", "UnknownCurrency"]

    sent = [record for record in await read_topic(settings, "purchases") if record.headers]
    origins = {dict(record.headers)[REDRIVEN_HEADER].decode().split()[1] for record in sent}
    assert len(sent) == 3
    assert origins < {letter["dead_letter"] for letter in found}
    for record in sent:
        original = next(letter for letter in found if letter["value_base64"] == _text(record.value))
        assert (record.partition, _text(record.key)) == (original["partition"], original["key_base64"])


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


Letter = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


async def write_letters(settings: Settings, letters: Iterable[Letter]) -> None:
    """Put records (key, value, headers) into partition 0 of `dead-letters`, as a worker does."""
    most_bytes = 2 * INPUT_MAX_MESSAGE_BYTES
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        max_batch_size=most_bytes,
        max_request_size=most_bytes,
    )
    async with producer:
        for key, value, said in letters:
            batch = producer.create_batch()
            assert batch.append(key=key, value=value, timestamp=None, headers=said) is not None
            await (await producer.send_batch(batch, settings.topic("dead-letters"), partition=0))


async def test_what_cannot_be_sent_again_is_told_and_the_rest_is_sent(
    settings: Settings, ebbtide: Ebbtide
) -> None:
    """Each with its reason; a record that is no letter is passed over."""
    refused = Rejection("Malformed", "$: not JSON")
    consents = settings.topic("consents")
    own = headers(refused, consents, 2, 0)
    too_large = b"x" * (INPUT_MAX_MESSAGE_BYTES + 1_000)
    await produce(settings, [Record("consents", b"c1", b"{", 2)])
    await write_letters(
        settings,
        [
            (b"k", b"{a", own),
            (b"k", b"{b", [*own, (TRUNCATED_HEADER, b"6000000")]),
            (b"k", b"{c", headers(refused, "elsewhere", 0, 1)),
            (b"k", b"none", []),
            (b"k", b"{d", headers(refused, consents, PARTITIONS, 1)),
            (None, None, own),
            (b"k", too_large, own),
            (b"k", b"{e", own),
        ],
    )
    code, lines, errors = await ask(ebbtide, "dlq", "redrive")
    assert code == 1
    assert lines == [f"2 records sent: 2 to {consents}"]
    reasons = {line.split()[2]: line.partition(" was not sent: ")[2] for line in errors}
    assert reasons == {
        "0:1": "it holds the beginning of 6,000,000 bytes only",
        "0:2": "elsewhere is no input with this topic prefix",
        "0:4": f"{consents} has no partition {PARTITIONS}",
        "0:5": "it had neither key nor value",
        "0:6": f"it is too large for {consents} (max.message.bytes {INPUT_MAX_MESSAGE_BYTES}), unless compressed",
    }
    assert [(r.partition, r.value) for r in await read_topic(settings, "consents")][1:] == [
        (2, b"{a"),
        (2, b"{e"),
    ]

    code, lines, errors = await ask(ebbtide, "dlq", "redrive", "0:7", "0:3")
    assert (code, lines) == (1, [])
    assert errors == ["ebbtide: error: no dead letter that fits at 0:3"]
    assert (await ask(ebbtide, "dlq", "redrive", "0:7", "0:0"))[:2] == (
        0,
        [f"2 records sent: 2 to {consents}"],
    )
    assert len(await read_topic(settings, "consents")) == 5
    assert [letter["dead_letter"] for letter in await letters_of(ebbtide)] == [
        f"0:{offset}" for offset in (0, 1, 2, 4, 5, 6, 7)
    ]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
async def test_a_redrive_keeps_the_order_and_leaves_out_what_it_has_caused(
    guarantee: str, settings: Settings, ebbtide: Ebbtide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of two letters; the last letter is of a record that only this redrive sends."""
    monkeypatch.setenv("EBBTIDE_PROCESSING_GUARANTEE", guarantee)
    monkeypatch.setattr(dead_letters, "PART_LETTERS", 2)
    values = [b"{%d" % number for number in range(5)]
    await produce(settings, [Record("consents", b"k", value, 1) for value in values])
    refused = Rejection("Malformed", "$: not JSON")
    places = [*enumerate(values), (len(values), values[0])]
    await write_letters(
        settings, [(b"k", value, headers(refused, settings.topic("consents"), 1, at)) for at, value in places]
    )
    code, lines, _ = await ask(ebbtide, "dlq", "redrive")
    assert (code, lines) == (0, [f"5 records sent: 5 to {settings.topic('consents')}"])
    assert [record.value for record in await read_topic(settings, "consents")] == values * 2


async def test_a_missing_topic_is_named_and_not_created(
    kafka: KafkaService, ebbtide: Ebbtide, unique_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a mistyped prefix."""
    prefix = f"typo-{unique_prefix}"
    monkeypatch.setenv("EBBTIDE_TOPIC_PREFIX", prefix)
    for topic, arguments in (
        ("dead-letters", ("dlq", "list")),
        ("purchases", ("dlq", "redrive")),
        ("consents", ("erase", "c1")),
    ):
        code, lines, (line,) = await ask(ebbtide, *arguments)
        assert (code, lines) == (1, [])
        assert line.startswith("ebbtide: error: there is no topic ")
        assert f"{prefix}{topic}" in line
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers) as admin:
        assert not any(name.startswith(prefix) for name in admin.list_topics())


async def test_an_erasure_reaches_the_customer_in_whichever_partition_they_are(
    settings: Settings, ebbtide: Ebbtide
) -> None:
    """They came there by another partitioner than Kafka's. Afterwards nobody knows them, and they have left."""
    names = [f"c{number}" for number in range(12)]
    await produce(settings, purchases(*(order(name, f"e-{name}") for name in names)))
    await run_to_the_end(settings)
    assert sorted(await stored_profiles(settings)) == sorted(names)
    foreign = next(name for name in names if _record(name).partition != _default_partition(name))

    code, lines, errors = await ask(ebbtide, "erase", foreign)
    assert (code, errors) == (0, [])
    place = f"{settings.topic('consents')} {_record(foreign).partition}"
    assert lines[0].startswith(f"sent to {place}:0;")
    await run_to_the_end(settings)
    assert sorted(await stored_profiles(settings)) == sorted({*names} - {foreign})
    left = [change for change in await changes_of(settings) if change["direction"] == "left"]
    assert {change["customer_id"] for change in left} == {foreign}

    code, _, (line,) = await ask(ebbtide, "erase", foreign, "--at", NOON)
    assert code == 1
    assert f"customer '{foreign}' was erased up to " in line
    code, lines, errors = await ask(ebbtide, "erase", foreign)
    assert (code, errors) == (0, [])
    assert lines[0].startswith(f"sent to {place}:1;")


def _record(customer: str) -> Record:
    return record_of("purchases", order(customer, "any"), PARTITIONS)


def _default_partition(customer: str) -> int:
    every = list(range(PARTITIONS))
    return int(DefaultPartitioner()(customer.encode(), every, every))


async def test_an_unknown_customers_erasure_goes_where_kafkas_partitioner_says_or_the_option(
    settings: Settings, ebbtide: Ebbtide
) -> None:
    """Before any worker has run, too: what comes later and is dated earlier must find it."""
    code, _, (warning,) = await ask(ebbtide, "erase", "c7", "--at", NOON)
    assert code == 0
    assert warning.startswith("ebbtide: warning: Redis does not hold 'c7': ")
    other = (_default_partition("c7") + 1) % PARTITIONS
    code, _, errors = await ask(ebbtide, "erase", "c7", "--at", NOON, "--partition", str(other))
    assert (code, errors) == (0, [])
    records = {record.partition: record for record in await read_topic(settings, "consents")}
    assert records.keys() == {_default_partition("c7"), other}
    for record in records.values():
        sent = json.loads(record.value)
        assert record.key == b"c7"
        assert (sent["kind"], sent["occurred_at"], sent["customer_id"]) == ("erasure", NOON, "c7")


async def test_an_erasure_that_could_not_be_taken_is_not_sent(
    settings: Settings, ebbtide: Ebbtide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that no record may have, a date ahead, no such partition; and by the event clock, none without a date."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1, hours=1)).isoformat()
    for arguments, expected in (
        (("c" * 2_000,), "CUSTOMER_ID: "),
        (("c1", "--at", tomorrow), "--at: "),
        (("c1", "--partition", str(PARTITIONS)), "--partition: "),
    ):
        code, _, (line,) = await ask(ebbtide, "erase", *arguments)
        assert code == 2
        assert line.startswith(f"ebbtide: error: {expected}")
    monkeypatch.setenv("EBBTIDE_CLOCK", "event")
    code, _, (line,) = await ask(ebbtide, "erase", "c1")
    assert code == 2
    assert "--at is needed" in line
    assert await read_topic(settings, "consents") == []
