"""How the inputs are fetched: a micro-batch begins with all that has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.settings import Settings
from streams.worker.reading import inputs
from streams.worker.reading.inputs import Inputs
from tests.integration.harness import Record, make_topics, produce, real_clients, records_of
from tests.oracles.seeded_log import make_log

pytestmark = pytest.mark.real_kafka

WAIT_MS = 5_000
APART_S = 0.05
"""Between records: time enough for a fetch that is under way to be answered."""


@pytest.fixture
def records() -> list[Record]:
    """Some of all three inputs."""
    log = records_of(make_log(1))
    return log[:: len(log) // 20][:20]


@pytest.fixture
async def reading(seeded_settings: Settings) -> AsyncIterator[Inputs]:
    """The only partition's inputs, from their beginning."""
    await make_topics(seeded_settings)
    async with real_clients(seeded_settings) as clients:
        made = Inputs(seeded_settings, clients, 0, seeded_settings.load_model())
        await made.open()
        made.seek(dict.fromkeys(made.buffers, 0))
        yield made
        await made.close()


async def produce_apart(settings: Settings, records: list[Record]) -> None:
    """One after the other, with time in between."""
    for record in records:
        await produce(settings, [record])
        await asyncio.sleep(APART_S)


async def test_a_micro_batch_at_the_end_begins_with_all_that_has_come(
    seeded_settings: Settings, reading: Inputs, records: list[Record]
) -> None:
    """Records that came one by one during a micro-batch come together, not the first of them alone."""
    assert len({record.topic for record in records[1:]}) > 1
    await produce(seeded_settings, records[:1])
    assert await reading.fill(WAIT_MS) == 1
    await produce_apart(seeded_settings, records[1:])
    assert await reading.fill(WAIT_MS) == len(records) - 1


async def test_without_a_moment_to_wait_all_that_has_come_is_given_too(
    seeded_settings: Settings, reading: Inputs, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fetch that came to the end no other one is under way; the next one is waited for all the same."""
    await produce(seeded_settings, records[:1])
    assert await reading.fill(WAIT_MS) == 1
    await produce_apart(seeded_settings, records[1:])
    monkeypatch.setattr(inputs, "LOOK_MS", WAIT_MS)
    assert await reading.fill(0) == len(records) - 1


async def test_a_fetch_that_has_waited_in_the_background_gives_more_than_the_first_record(
    seeded_settings: Settings, reading: Inputs, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there is other work nobody waits for it: it holds the first record that came, and others came since."""
    await produce(seeded_settings, records[:1])
    assert await reading.fill(WAIT_MS) == 1
    assert await reading.fill(0) == 0
    await produce_apart(seeded_settings, records[1:])
    monkeypatch.setattr(inputs, "LOOK_MS", WAIT_MS)
    assert await reading.fill(0) == len(records) - 1
