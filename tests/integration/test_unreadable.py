"""Batches that nobody can read, or that nobody must: they hold up a partition for a while, and never for good."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from redis import Redis

from streams.errors import EbbtideError
from streams.operations.dead_letters import Chosen, dead_letters, redrive
from streams.settings import Settings
from streams.state import stuck
from streams.state.keys import PartitionKeys
from streams.worker import partition_task
from streams.worker.partition_state import Status
from streams.worker.worker import Worker
from tests.integration.corpus import AFTERWARDS, document_of
from tests.integration.damage import empty, power_cut
from tests.integration.harness import (
    Record,
    changes_of,
    check_sequences,
    make_topics,
    produce,
    read_topic,
    record_of,
    run_to_the_end,
    running,
    stored_profiles,
    until,
    until_idle,
)
from tests.integration.log_files import (
    Damage,
    LogFile,
    claim_many_offsets,
    flip_a_bit,
    give_unknown_codec,
)

pytestmark = pytest.mark.real_kafka

DAMAGES = {
    "wrong checksum": (flip_a_bit, "its checksum (CRC) is wrong"),
    "unknown codec": (give_unknown_codec, "unknown codec 5"),
    "wrong number of offsets": (claim_many_offsets, "its checksum (CRC) is wrong"),
}


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three looks in half a second instead of half a minute."""
    monkeypatch.setattr(stuck, "LOOKS_OVER_S", 0.6)
    monkeypatch.setattr(partition_task, "LOOK_AGAIN_S", 0.2)


def orders_of(*customers: str) -> list[Record]:
    """One order of each."""
    return [
        record_of("purchases", document_of("purchases", customer, AFTERWARDS["purchases"]))
        for customer in customers
    ]


async def damaged_log(settings: Settings, damage: Damage) -> LogFile:
    """Purchases in batches of offsets 0-1, 2-4, 5-6 and 7; the second is damaged, and holds another order of a."""
    again = {**AFTERWARDS["purchases"], "order_id": "o-again"}
    second = record_of("purchases", document_of("purchases", "a", again, "again"))
    await make_topics(settings)
    for batch in (orders_of("a", "b"), [*orders_of("c", "d"), second], orders_of("f", "g"), orders_of("h")):
        await produce(settings, batch)
    log = LogFile(settings, "purchases")
    log.damage(3, damage)
    return log


def headers_of(letter: ConsumerRecord) -> dict[str, str]:
    return {name.removeprefix("__streams.errors."): value.decode() for name, value in letter.headers}


def reason_of(worker: Worker) -> str:
    states = worker.states()
    return states[0].reason if states else ""


@pytest.mark.parametrize("kind", DAMAGES)
async def test_a_batch_that_cannot_be_read_becomes_one_dead_letter_and_the_next_record_goes_on(
    settings: Settings, redis_client: Redis, kind: str
) -> None:
    """The letter names the offsets and holds the bytes; Redis and a restore of it skip the same, mended or not."""
    damage, why = DAMAGES[kind]
    log = await damaged_log(settings, damage)
    raw = log.batch_with(3).raw
    async with running(settings) as worker:
        await until(lambda: "offsets 2 to 4 cannot be read" in reason_of(worker), "a reason")
        assert worker.states()[0].status is not Status.RUNNING
        await until_idle(settings, worker)
        assert reason_of(worker) == ""
        assert worker.states()[0].outcomes["purchases", "dead_letter"] == 1
    (letter,) = await read_topic(settings, "dead-letters")
    assert letter.value == raw
    assert letter.key is None
    assert headers_of(letter) == {
        "exception": "Unreadable",
        "message": f"$: offsets 2 to 4 cannot be read: {why}",
        "topic": settings.topic("purchases"),
        "partition": "0",
        "offset": "2",
        "ebbtide_offsets": "2-4",
    }
    kept = PartitionKeys.of(settings, 0).skipped
    assert redis_client.hgetall(kept) == {b"purchases:2": b"5"}
    profiles = await stored_profiles(settings)
    assert sorted(profiles) == ["a", "b", "f", "g", "h"]
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == profiles
    assert redis_client.hgetall(kept) == {b"purchases:2": b"5"}


async def test_batches_of_several_inputs_are_looked_at_together(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three errors are enough for both, or some more where one was not there yet; one after the other has six."""
    monkeypatch.setattr(stuck, "LOOKS_OVER_S", 0.0)
    await damaged_log(settings, flip_a_bit)
    consent = record_of("consents", document_of("consents", "a", AFTERWARDS["consents"]))
    await produce(settings, [consent])
    LogFile(settings, "consents").damage(0, flip_a_bit)
    await run_to_the_end(settings)
    letters = [headers_of(letter) for letter in await read_topic(settings, "dead-letters")]
    assert sorted(said["ebbtide_offsets"] for said in letters) == ["0-0", "2-4"]
    assert 3 <= caplog.text.count("UnreadableInputError") < 6


async def test_what_was_skipped_stays_skipped_although_it_can_be_read_again(
    settings: Settings, redis_client: Redis
) -> None:
    """A restore makes what there was, not what there might have been."""
    log = await damaged_log(settings, flip_a_bit)
    await run_to_the_end(settings)
    log.damage(3, flip_a_bit)
    profiles = await stored_profiles(settings)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == profiles
    assert sorted(profiles) == ["a", "b", "f", "g", "h"]
    assert len(await read_topic(settings, "dead-letters")) == 1


async def test_a_batch_that_can_be_read_after_all_is_taken(settings: Settings) -> None:
    """What failed on the way is no reason to skip what the broker has."""
    log = await damaged_log(settings, flip_a_bit)
    async with running(settings) as worker:
        await until(lambda: "offsets 2 to 4 cannot be read" in reason_of(worker), "a reason")
        log.damage(3, flip_a_bit)
        await until_idle(settings, worker)
    profiles = await stored_profiles(settings)
    assert sorted(profiles) == list("abcdfgh")
    assert profiles["a"]["aggregates"]["order_count"] == 2
    assert await read_topic(settings, "dead-letters") == []


async def test_a_crash_between_persist_and_publish_skips_once(
    settings: Settings, redis_client: Redis
) -> None:
    """The dead letter, the skipped range and the offsets are one micro-batch."""
    await damaged_log(settings, flip_a_bit)
    with power_cut(publishing="dead-letters"):
        async with running(settings) as worker:
            await until(
                lambda: worker.states()[0].status is Status.STOPPED if worker.states() else False, "cut"
            )
    assert redis_client.exists(PartitionKeys.of(settings, 0).skipped)
    assert await read_topic(settings, "dead-letters") == []
    await run_to_the_end(settings)
    assert len(await read_topic(settings, "dead-letters")) == 1
    kept = [
        dict(record.headers)["ebbtide_kind"] for record in await read_topic(settings, "ebbtide-decisions")
    ]
    assert kept.count(b"skipped") == 1
    assert sorted(await stored_profiles(settings)) == ["a", "b", "f", "g", "h"]
    check_sequences(await changes_of(settings))


async def test_without_transactions_a_batch_is_skipped_alike(settings: Settings, redis_client: Redis) -> None:
    """Redis, which is the only memory then, keeps the range; a restart sends at most its last micro-batch again."""
    settings = settings.model_copy(update={"processing_guarantee": "at_least_once"})
    await damaged_log(settings, flip_a_bit)
    await run_to_the_end(settings)
    await run_to_the_end(settings)
    letters = [headers_of(letter) for letter in await read_topic(settings, "dead-letters")]
    assert {said["ebbtide_offsets"] for said in letters} == {"2-4"}
    assert redis_client.hgetall(PartitionKeys.of(settings, 0).skipped) == {b"purchases:2": b"5"}
    assert sorted(await stored_profiles(settings)) == ["a", "b", "f", "g", "h"]


async def test_what_was_read_and_cannot_be_read_by_a_restore_is_said_and_not_skipped(
    settings: Settings, redis_client: Redis
) -> None:
    """A state without it would be another than the one that was published."""
    log = await damaged_log(settings, flip_a_bit)
    log.damage(3, flip_a_bit)
    await run_to_the_end(settings)
    before = await stored_profiles(settings)
    log.damage(3, flip_a_bit)
    empty(redis_client, settings)
    async with running(settings) as worker:
        await until(lambda: "offsets 2 to 4 cannot be read" in reason_of(worker), "a reason")
        assert worker.states()[0].status is not Status.RUNNING
        log.damage(3, flip_a_bit)
        await until_idle(settings, worker)
    assert await stored_profiles(settings) == before
    assert await read_topic(settings, "dead-letters") == []


async def send_compressed(settings: Settings, values: Sequence[bytes], key: bytes = b"bomb") -> None:
    """Each value to purchases, in a gzip batch of its own."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        compression_type="gzip",
        max_request_size=200_000_000,
    )
    async with producer:
        for value in values:
            await producer.send_and_wait(settings.topic("purchases"), value, key, 0)


async def test_a_batch_that_explodes_is_not_decompressed(settings: Settings) -> None:
    """Beyond the limit, the letter holds it as it came; several in one answer are looked at together."""
    settings = settings.model_copy(update={"decompressed_max_bytes": 1_048_576})
    await make_topics(settings)
    await produce(settings, orders_of("a"))
    await send_compressed(settings, [b" " * 3_000_000] * 3)
    await produce(settings, orders_of("b"))
    await run_to_the_end(settings)
    letters = await read_topic(settings, "dead-letters")
    assert [headers_of(letter)["ebbtide_offsets"] for letter in letters] == ["1-1", "2-2", "3-3"]
    for letter in letters:
        assert "more than 1,048,576 bytes once decompressed" in headers_of(letter)["message"]
        assert letter.value is not None
        assert len(letter.value) < 5_000
    redriven = await redrive(settings, Chosen(), is_dry=False)
    assert not redriven.sent
    assert all("which is no record" in reason for _, reason in redriven.left)
    assert sorted(await stored_profiles(settings)) == ["a", "b"]


async def test_dead_letters_that_cannot_be_read_are_one_line_of_error(settings: Settings) -> None:
    """Of the topic, the offsets and the reason, for a command that reads no more than it can."""
    await make_topics(settings)
    await produce(settings, [orders_of("a")[0]._replace(value=b"[")])
    await run_to_the_end(settings)
    LogFile(settings, "dead-letters").damage(0, flip_a_bit)
    with pytest.raises(EbbtideError) as raised:
        _ = [letter async for letter in dead_letters(settings, Chosen())]
    topic = settings.topic("dead-letters")
    assert str(raised.value) == f"{topic}, partition 0: offset 0 cannot be read: its checksum (CRC) is wrong"


async def test_a_record_with_a_key_of_60_megabytes_becomes_a_dead_letter_with_its_beginning(
    settings: Settings,
) -> None:
    """Within the limit it is read; what is too large for the topic is cut, and headers say of how much."""
    await make_topics(settings)
    await send_compressed(settings, [b"{}"], b"k" * 60_000_000)
    await produce(settings, orders_of("a"))
    await run_to_the_end(settings)
    (letter,) = await read_topic(settings, "dead-letters")
    assert letter.key == b"k" * 1_024
    assert letter.value == b"{}"
    assert headers_of(letter)["ebbtide_key_truncated_from_bytes"] == "60000000"
    assert sorted(await stored_profiles(settings)) == ["a"]
