"""`ebbtide load`, on real Kafka: files in the topics, once, and a worker that takes them as history."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka.partitioner.default import murmur2

from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.kafka.log_writer import InputRecord, LogWriter
from streams.operations import load
from streams.operations.load import LOADED_HEADER
from streams.settings import Settings
from tests.integration.harness import (
    changes_of,
    make_settings,
    make_topics,
    read_topic,
    run_to_the_end,
    stored_profiles,
)
from tests.services import KafkaService, RedisService

PARTITIONS = 3
CUSTOMERS, ORDERS = 20, 6

pytestmark = pytest.mark.real_kafka
Load = Callable[..., tuple[int, str, str]]


@pytest.fixture
async def settings(kafka: KafkaService, redis_server: RedisService, unique_prefix: str) -> Settings:
    """Of a group by the wall clock, which has not begun, and its topics."""
    made = make_settings(kafka.bootstrap_servers, redis_server.url, unique_prefix)
    await make_topics(made, PARTITIONS)
    return made


@pytest.fixture
def ebbtide_load(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Load:
    """`ebbtide load` with these settings: exit code, output, errors."""
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["load", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """A table of orders whose newest come first, one of whose rows is no order, and a consent."""
    first = date.today() - timedelta(days=300)
    rows = [
        f"o{customer}-{number},c{customer},{first + timedelta(days=40 * number + customer)},{10 + customer}.00"
        for number in reversed(range(ORDERS))
        for customer in range(CUSTOMERS)
    ]
    orders, consents = tmp_path / "orders.csv", tmp_path / "consents.jsonl"
    orders.write_text("\n".join(["order_id,customer,created_at,amount", *rows, "o,c1,someday,1"]), "utf-8")
    consent = {
        "event_id": "k1",
        "customer_id": "c1",
        "occurred_at": f"{first}T00:00:00Z",
        "kind": "consent",
        "purpose": "email",
        "granted": True,
    }
    consents.write_text(json.dumps(consent), "utf-8")
    return "--purchases", str(orders), "--consents", str(consents)


async def loaded(settings: Settings) -> list[Any]:
    """What the input of purchases holds."""
    return [record for record in await read_topic(settings, "purchases") if record.value is not None]


async def test_files_become_keyed_records_in_the_order_of_time_which_a_worker_takes_as_history(
    settings: Settings, ebbtide_load: Load, files: tuple[str, ...]
) -> None:
    """Keys in the partitions of Kafka's own clients; everyone enters once, where plain rules put them."""
    code, said, errors = await asyncio.to_thread(ebbtide_load, *files)
    assert (code, said.splitlines()) == (0, ["121 records sent: 120 to purchases, 1 to consents"]), errors
    assert "1 of 122 records were refused" in errors
    assert "orders.csv:122: occurred_at" in errors
    records = await loaded(settings)
    assert Counter(record.key for record in records) == {
        f"c{customer}".encode(): ORDERS for customer in range(CUSTOMERS)
    }
    for place in range(PARTITIONS):
        of_place = [record for record in records if record.partition == place]
        times = [json.loads(record.value)["occurred_at"] for record in of_place]
        assert times == sorted(times)
        assert {(murmur2(record.key) & 0x7FFFFFFF) % PARTITIONS for record in of_place} == {place}
    await run_to_the_end(settings)
    profiles = await stored_profiles(settings)
    assert {profile["aggregates"]["order_count"] for profile in profiles.values()} == {ORDERS}
    changes = await changes_of(settings)
    assert {change["reason"]["trigger"] for change in changes} == {"load"}
    assert len(changes) == 3 * CUSTOMERS

    code, said, errors = await asyncio.to_thread(ebbtide_load, *files)
    assert (code, said) == (2, "")
    assert "has begun with these topics" in errors
    assert "--live loads it all the same" in errors


async def test_a_load_that_was_interrupted_goes_on_where_it_stopped(
    settings: Settings, ebbtide_load: Load, files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka dies after some portions, of the last of which half had come through: each record is there once."""
    monkeypatch.setattr(load, "PART_RECORDS", 16)
    send, parts = LogWriter.send, 0

    async def failing(self: LogWriter, records: Sequence[InputRecord]) -> Any:
        nonlocal parts
        parts += 1
        if parts == 4:
            await send(self, records[:8])
            raise EbbtideError("Kafka has gone")
        return await send(self, records)

    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "send", failing)
        code, _, errors = await asyncio.to_thread(ebbtide_load, *files)
    assert code == 1
    assert "Kafka has gone" in errors
    assert len(await loaded(settings)) == 16 + 16 + 8
    code, said, errors = await asyncio.to_thread(ebbtide_load, *files)
    assert code == 0
    assert said.splitlines() == ["80 records sent: 80 to purchases", "41 more had been sent before"]
    ids = [json.loads(record.value)["event_id"] for record in await loaded(settings)]
    assert (len(ids), len(set(ids))) == (CUSTOMERS * ORDERS, CUSTOMERS * ORDERS)
    assert all(dict(record.headers)[LOADED_HEADER] for record in await loaded(settings))


async def test_a_rate_is_kept(settings: Settings, ebbtide_load: Load, files: tuple[str, ...]) -> None:
    """Twelve portions of ten, at 100 a second: by Kafka's clock they take eleven tenths of a second."""
    code, _, _ = await asyncio.to_thread(ebbtide_load, *files, "--rate", "100")
    assert code == 0
    times_ms = [record.timestamp for record in await loaded(settings)]
    assert max(times_ms) - min(times_ms) >= 1_000


async def test_live_records_are_sent_whether_the_worker_has_begun_or_not(
    settings: Settings, ebbtide_load: Load, files: tuple[str, ...]
) -> None:
    """They are taken as any others."""
    await run_to_the_end(settings)
    code, said, _ = await asyncio.to_thread(ebbtide_load, *files, "--live")
    assert code == 0
    assert said.startswith("121 records sent")
    await run_to_the_end(settings)
    assert len(await stored_profiles(settings)) == CUSTOMERS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "at least one of --purchases, --engagements and --consents is needed"),
        (("--purchases", "{folder}/none.csv"), "does not exist"),
        (("--purchases", "{folder}/bad.csv"), "no record was accepted"),
    ],
)
async def test_wrong_use(
    arguments: tuple[str, ...], message: str, settings: Settings, ebbtide_load: Load, tmp_path: Path
) -> None:
    """Nothing is sent."""
    (tmp_path / "bad.csv").write_text("order_id,customer,date,amount\no1,c1,someday,1\n", "utf-8")
    words = [word.format(folder=tmp_path) for word in arguments]
    code, _, errors = await asyncio.to_thread(ebbtide_load, *words)
    assert code != 0
    assert message in errors
    assert await loaded(settings) == []
