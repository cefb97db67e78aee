"""`ebbtide skip`: what no rule foresees is passed over by the owner, in one micro-batch, and only where it is stuck."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from redis import Redis

from enrichment.enricher import Enricher
from enrichment.kernel import core_of
from streams.cli.commands import main
from streams.kafka import fetching
from streams.operations.partition_survey import survey
from streams.settings import Settings
from streams.state import stuck
from streams.state.keys import PartitionKeys
from streams.state.stuck import SkipRequest
from streams.worker import partition_task
from streams.worker.compiled_batch import CompiledBatch
from streams.worker.reading import silence
from streams.worker.worker import Worker
from tests.integration.damage import empty
from tests.integration.harness import (
    make_topics,
    produce,
    read_topic,
    run_to_the_end,
    running,
    stored_profiles,
    until,
    until_idle,
)
from tests.integration.log_files import flip_a_bit
from tests.integration.test_unreadable import damaged_log, headers_of, orders_of, reason_of

pytestmark = pytest.mark.real_kafka


@pytest.fixture(autouse=True)
def _stuck_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """No batch ever counts as unreadable by itself, and attempts follow each other fast."""
    monkeypatch.setattr(stuck, "LOOKS", 1_000)
    monkeypatch.setattr(partition_task, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(partition_task, "LONGEST_BACK_OFF_S", 0.4)


async def skip(settings: Settings, offset: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command, by alice, because of a bad disk; gives its exit code."""
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    place = ["--topic", "purchases", "--partition", "0", "--offset", str(offset)]
    return await asyncio.to_thread(main, ["skip", *place, "--by", "alice", "--why", "a bad disk"])


async def skipped_letter(settings: Settings, redis: Redis) -> ConsumerRecord:
    """The only dead letter, after which nothing is asked for any more."""
    (letter,) = await read_topic(settings, "dead-letters")
    said = headers_of(letter)
    assert said["exception"] == "Skipped"
    assert said["message"].startswith("$: skipped by alice: a bad disk; it was stuck there: ")
    keys = PartitionKeys.of(settings, 0)
    assert not redis.exists(keys.skip_request)
    assert redis.hget(keys.meta, "stuck") is None
    return letter


async def until_stuck(worker: Worker, redis: Redis, settings: Settings, what: str) -> None:
    """Wait until the partition says that it is stuck, also in Redis."""
    meta = PartitionKeys.of(settings, 0).meta
    await until(lambda: what in reason_of(worker) and redis.hget(meta, "stuck") is not None, what)


async def test_a_batch_is_skipped_at_once_where_somebody_asks_for_it(
    settings: Settings, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letter says who and why and holds the bytes; doctor had named the place, and a restore skips the same."""
    log = await damaged_log(settings, flip_a_bit)
    async with running(settings) as worker:
        await until_stuck(worker, redis_client, settings, "offsets 2 to 4 cannot be read")
        (standing,) = await survey(settings, worker.model)
        assert standing.status == "error"
        assert "stuck: " in standing.message
        assert "`ebbtide skip --topic purchases --partition 0 --offset 2`" in standing.message
        assert await skip(settings, 3, monkeypatch) == 0
        await until_idle(settings, worker)
    letter = await skipped_letter(settings, redis_client)
    assert letter.value == log.batch_with(3).raw
    assert headers_of(letter)["ebbtide_offsets"] == "2-4"
    profiles = await stored_profiles(settings)
    assert sorted(profiles) == ["a", "b", "f", "g", "h"]
    log.damage(3, flip_a_bit)
    empty(redis_client, settings)
    await run_to_the_end(settings)
    assert await stored_profiles(settings) == profiles


async def test_nothing_is_skipped_where_the_partition_is_not_stuck(
    settings: Settings,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The command says where it is, and a request that comes into Redis all the same is refused by the owner."""
    await damaged_log(settings, flip_a_bit)
    async with running(settings) as worker:
        await until_stuck(worker, redis_client, settings, "offsets 2 to 4 cannot be read")
        assert await skip(settings, 6, monkeypatch) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "not stuck at purchases offset 6: it is stuck at purchases offsets 2 to 4" in line
        task = worker.tasks[0]
        await task._store.ask_to_skip(SkipRequest("purchases", 6, "mallory", ""))
        key = PartitionKeys.of(settings, 0).skip_request
        await until(lambda: not redis_client.exists(key), "a refusal")
    assert "mallory asked to skip purchases offset 6, but it is not stuck there: refused" in caplog.text
    assert await read_topic(settings, "dead-letters") == []


@pytest.mark.parametrize("core", ["python", "compiled"])
@pytest.mark.parametrize("way", ["load", "process"])
async def test_a_record_that_no_micro_batch_survives_is_found_and_can_be_skipped(
    settings: Settings, redis_client: Redis, monkeypatch: pytest.MonkeyPatch, way: str, core: str
) -> None:
    """In a first load and live: of many records, the one at fault is named by its offset; all others are taken."""
    if core == "compiled" and core_of("auto").compiled is None:
        pytest.skip(core_of("auto").reason)
    settings = settings.model_copy(update={"core": core})
    take, packed = getattr(Enricher, way), CompiledBatch._packed

    def fail_for_one(self: Enricher, events: Any, *more: Any) -> None:
        if any(event.customer_id == "poison" for event in events):
            raise KeyError("a fault of ours")
        take(self, events, *more)

    async def find_no_poison(self: CompiledBatch, customer_ids: list[str]) -> Any:
        if "poison" in customer_ids:
            raise KeyError("a fault of ours")
        return await packed(self, customer_ids)

    monkeypatch.setattr(Enricher, way, fail_for_one)
    monkeypatch.setattr(CompiledBatch, "_packed", find_no_poison)
    await make_topics(settings)
    names = [f"c{number}" for number in range(40)]
    orders = orders_of(*names[:30], "poison", *names[30:])
    if way == "load":
        await produce(settings, orders)
    async with running(settings) as worker:
        if way == "process":
            await until_idle(settings, worker)
            await produce(settings, orders)
        await until_stuck(
            worker, redis_client, settings, "offset 30 ends every micro-batch that takes it: KeyError"
        )
        assert await skip(settings, 30, monkeypatch) == 0
        await until_idle(settings, worker)
    letter = await skipped_letter(settings, redis_client)
    assert letter.key == b"poison"
    assert headers_of(letter)["offset"] == "30"
    assert sorted(await stored_profiles(settings)) == sorted(names)


async def test_an_offset_behind_which_nothing_comes_can_be_skipped(
    settings: Settings, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a broker that cannot read its own log there; the records before and after it are taken."""
    monkeypatch.setattr(silence, "DOUBTFUL_AFTER_S", 0.3)
    monkeypatch.setattr(silence, "STALLED_AFTER_S", 0.6)
    examined = fetching._ExaminingClient._examined

    async def silent_at_two(
        self: Any, topic: str, partition: int, said: Any, data: Any, positions: Any
    ) -> bytes | None:
        if topic.endswith("purchases") and positions[topic, partition] < 2:
            data = data[: 12 + int.from_bytes(data[8:12])]  # the first batch alone
        elif topic.endswith("purchases") and positions[topic, partition] == 2:
            return b""
        return await examined(self, topic, partition, said, data, positions)

    monkeypatch.setattr(fetching._ExaminingClient, "_examined", silent_at_two)
    await make_topics(settings)
    for customers in (("a", "b"), ("c",), ("d",)):
        await produce(settings, orders_of(*customers))
    async with running(settings) as worker:
        await until_stuck(worker, redis_client, settings, "nothing came from offset 2 on")
        assert await skip(settings, 2, monkeypatch) == 0
        await until_idle(settings, worker)
    letter = await skipped_letter(settings, redis_client)
    assert (letter.key, letter.value) == (None, None)
    assert sorted(await stored_profiles(settings)) == ["a", "b", "d"]
