"""How the inputs are fetched: a step begins with all that has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams.inputs import Inputs
from streams.settings import Settings
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
        inputs = Inputs(seeded_settings, clients, 0, seeded_settings.load_model())
        await inputs.open()
        inputs.seek(dict.fromkeys(inputs.buffers, 0))
        yield inputs
        await inputs.close()


async def produce_apart(settings: Settings, records: list[Record]) -> None:
    """One after the other, with time in between."""
    for record in records:
        await produce(settings, [record])
        await asyncio.sleep(APART_S)


async def test_a_step_at_the_end_begins_with_all_that_has_come(
    seeded_settings: Settings, reading: Inputs, records: list[Record]
) -> None:
    """Records that came one by one during a step come together, not the first of them alone."""
    assert len({record.topic for record in records[1:]}) > 1
    await produce(seeded_settings, records[:1])
    assert await reading.fill(WAIT_MS) == 1
    await produce_apart(seeded_settings, records[1:])
    assert await reading.fill(WAIT_MS) == len(records) - 1


async def test_while_there_is_other_work_fetches_go_on_in_the_background(
    seeded_settings: Settings, reading: Inputs, records: list[Record]
) -> None:
    """Asked without a moment to wait, it gives what has come in the meantime."""
    await produce(seeded_settings, records[:1])
    assert await reading.fill(WAIT_MS) == 1
    await produce_apart(seeded_settings, records[1:])
    came = 0
    async with asyncio.timeout(WAIT_MS / 1_000):
        while came < len(records) - 1:
            came += await reading.fill(0)
            await asyncio.sleep(0)
    assert came == len(records) - 1
