"""Batches of every codec and size, some of them damaged byte by byte on the broker's disk: none holds up the others."""

from __future__ import annotations

import random

import pytest

from streams.settings import Settings
from streams.state import stuck
from streams.worker import partition_task
from tests.fuzz.batches import Sent, any_damage, fill, producers
from tests.integration.harness import make_topics, read_topic, running, stored_profiles, until_idle
from tests.integration.log_files import LogFile
from tests.integration.test_unreadable import headers_of

pytestmark = pytest.mark.real_kafka

BATCHES = 150
DAMAGED_SHARE = 0.15
LIMIT_BYTES = 1_048_576


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck, "LOOKS_OVER_S", 0.3)
    monkeypatch.setattr(partition_task, "LOOK_AGAIN_S", 0.1)


async def test_every_batch_is_taken_or_becomes_one_dead_letter(settings: Settings, random_seed: int) -> None:
    """Oracle: the batches as they were sent, and which of them were damaged or too large."""
    rng = random.Random(f"batches/{random_seed}")
    settings = settings.model_copy(update={"decompressed_max_bytes": LIMIT_BYTES})
    await make_topics(settings)
    batches: dict[int, Sent] = {}
    async with producers(settings, 3_500_000) as of_each_codec:
        for number in range(BATCHES):
            producer = rng.choice(of_each_codec)
            batch = producer.create_batch()
            large_bytes = rng.choice((900_000, 1_200_000, 3_000_000)) if rng.random() < 0.06 else None
            sent = fill(rng, batch, number, large_bytes)
            answer = await (await producer.send_batch(batch, settings.topic("purchases"), partition=0))
            batches[answer.offset] = sent
    unreadable = {first for first, sent in batches.items() if sent.size_bytes > LIMIT_BYTES}
    log = LogFile(settings, "purchases")
    for batch in list(log.batches()):
        if rng.random() < DAMAGED_SHARE:
            log.damage_batch(batch, any_damage(rng))
            unreadable.add(batch.first)
    async with running(settings) as worker:
        await until_idle(settings, worker)
    readable = [sent for first, sent in batches.items() if first not in unreadable]
    letters = [headers_of(letter) for letter in await read_topic(settings, "dead-letters")]
    assert sorted(int(said["offset"]) for said in letters if said["exception"] == "Unreadable") == sorted(
        unreadable
    )
    assert sum(said["exception"] != "Unreadable" for said in letters) == sum(
        sent.refused for sent in readable
    )
    assert sorted(await stored_profiles(settings)) == sorted(c for sent in readable for c in sent.customers)
