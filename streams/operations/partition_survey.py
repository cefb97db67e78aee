"""How each partition stands, by Redis, by Kafka, and by what its last worker left; nothing is claimed or written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from enrichment.days import format_time
from enrichment.model import Model
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Mark
from streams.errors import EbbtideError, one_line
from streams.kafka.clients import Consumer
from streams.kafka.size_limits import StoppedError
from streams.kafka.topic_identity import check_inputs, lost_decisions
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.partition_facts import facts_after
from streams.state.store import StateStore, StoredMark
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clients import Clients, RealClients
from streams.worker.inputs import offsets_gone
from streams.worker.recovery import Finding, check_first_start, check_resumable, compare, mark_of
from streams.worker.restore import LogTooShortError, check_reach, read_decisions

AT_ONCE: Final = 8
LOOKS: Final = 3
LOOK_AGAIN_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Standing:
    """What is said of a partition; an `ok` message does not name it, so that equal ones can be counted."""

    partition: int
    status: Literal["ok", "warning", "error"]
    message: str


async def survey(settings: Settings, model: Model) -> list[Standing]:
    """For each partition of the inputs: why it stopped, and what a take-over would find now.

    Raises:
        EbbtideError: Kafka or Redis does not answer.
    """
    clients = RealClients(settings)
    try:
        async with _reader(settings, clients) as reader:
            count = len(reader.partitions_for_topic(settings.topic(INPUT_TOPICS[0])) or ())
            turns = asyncio.Semaphore(AT_ONCE)
            ids = await clients.topic_ids()
            views = [_View(settings, model, clients, reader, ids, partition) for partition in range(count)]
            said = await asyncio.gather(*(view.standings(turns) for view in views))
    except (KafkaError, RedisError, OSError, TimeoutError) as error:
        raise EbbtideError(f"the partitions cannot be looked at: {one_line(error)}") from error
    finally:
        await clients.redis.aclose()
    return [standing for standings in said for standing in standings]


@asynccontextmanager
async def _reader(settings: Settings, clients: Clients) -> AsyncIterator[Consumer]:
    """A consumer that knows the inputs and reads nothing."""
    reader = clients.consumer(group_id=None, isolation_level="read_committed", enable_auto_commit=False)
    reader.assign([TopicPartition(settings.topic(topic), 0) for topic in INPUT_TOPICS])
    await reader.start()
    try:
        yield reader
    finally:
        await stop_within(STOP_TIMEOUT_S, reader)


class _View:
    """One partition, seen from beside the worker that may be at work on it."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        clients: Clients,
        reader: Consumer,
        topic_ids: Mapping[str, str],
        partition: int,
    ) -> None:
        self._topic_ids = topic_ids
        self._settings = settings
        self._clients = clients
        self._reader = reader
        self._partition = partition
        self._tps = {topic: TopicPartition(settings.topic(topic), partition) for topic in INPUT_TOPICS}
        keys = PartitionKeys.of(settings, partition)
        self._store = StateStore(clients.redis, keys, model, settings.erasure_keys)

    async def standings(self, turns: asyncio.Semaphore) -> list[Standing]:
        """Why the partition stopped or is stuck, and what else stands in the way of a take-over."""
        async with turns:
            stop, stuck = await self._store.kept_troubles()
            failing = await self._store.told_failing() if stop is None and stuck is None else None
            found = await self._found()
        if stop is None and stuck is not None:
            partition, offset = self._partition, stuck.first
            way_out = f"`ebbtide skip --topic {stuck.topic} --partition {partition} --offset {offset}` passes it over"
            return [Standing(partition, "error", f"partition {partition}: stuck: {stuck.reason}; {way_out}")]
        if failing is not None:
            said = f"partition {self._partition}: stuck: {one_line(failing.reason)}"
            return [Standing(self._partition, "error", f"{said} (since {format_time(failing.at_us)})")]
        if stop is None:
            return [found]
        kept = Standing(self._partition, "error", f"{stop.reason} (since {format_time(stop.at_us)})")
        is_news = found.status != "ok" and found.message != stop.reason
        return [kept, found] if is_news else [kept]

    async def _found(self) -> Standing:
        try:
            return Standing(self._partition, *await self._take_over())
        except (StoppedError, LogTooShortError) as error:
            return Standing(self._partition, "error", str(error))
        except EbbtideError as error:
            return Standing(self._partition, "warning", f"partition {self._partition}: {error}")

    async def _take_over(self) -> tuple[Literal["ok", "warning"], str]:
        """What a take-over would find; raises what would stop it."""
        await self._check_topics()
        beginnings = await self._offsets("beginning")
        if self._settings.processing_guarantee == "at_least_once":
            stored = await self._store.stored_mark()
            check_resumable(stored, self._partition)
            if stored is None:
                return "ok", Finding.FIRST_START.value
            await self._check_still_there(stored.mark, beginnings)
            return "ok", _told_of_load(stored.mark) or "Redis says where to go on from"
        compared = await self._compare()
        if compared is None:
            stored = await self._store.stored_mark()
            return "ok", (None if stored is None else _told_of_load(stored.mark)) or "a worker is at work"
        finding, stored, committed = compared
        if committed is None:
            await check_first_start(self._settings, self._clients, self._partition)
            return "ok", finding.value
        if finding is Finding.LOST_WRITES and committed.step > 0:
            starts = {} if committed.load is None else committed.load.starts
            check_reach(self._settings, self._partition, beginnings, starts)
            table = await read_decisions(self._settings, self._clients, self._partition)
            facts_after(table.facts, self._settings, self._partition, is_begun=True)
        await self._check_still_there(committed, beginnings)
        if finding is Finding.LOST_WRITES:
            is_begun = stored is not None and stored.is_rebuilding
            what = "its rebuild is not done" if is_begun else f"{finding.value}: it will be rebuilt"
            return "warning", f"partition {self._partition}: {what}, up to step {committed.step}"
        return "ok", _told_of_load(committed) or finding.value

    async def _check_topics(self) -> None:
        """Raise where the topics are not those that were read before. A take-over goes on without the decisions."""
        stored = await self._store.stored_mark()
        if stored is None:
            return
        check_inputs(self._settings, self._partition, stored.topic_ids, self._topic_ids)
        lost = lost_decisions(self._settings, stored.topic_ids, self._topic_ids)
        if lost is not None:
            raise StoppedError(f"partition {self._partition}: {lost}")

    async def _compare(self) -> tuple[Finding, StoredMark | None, Mark | None] | None:
        """Redis against Kafka; None while a worker moves on.

        Redis is read before and after Kafka: where it has not moved, what Kafka said in between belongs to it. Offsets
        may be committed while they are read, so that only what is wrong at every look is so.
        """
        for attempt in range(LOOKS):
            await asyncio.sleep(LOOK_AGAIN_S if attempt else 0)
            stored = await self._store.stored_mark()
            found = await self._clients.committed_offsets(self._partition)
            if await self._store.stored_mark() != stored:
                continue
            try:
                committed = mark_of(found, self._settings.group_id, self._partition)
                return compare(stored, committed, self._partition), stored, committed
            except StoppedError:
                if attempt == LOOKS - 1:
                    raise
        return None

    async def _check_still_there(self, mark: Mark, beginnings: dict[InputTopic, int]) -> None:
        ends = await self._offsets("end")
        gone = {
            self._tps[topic]: offset
            for topic, offset in mark.offsets.items()
            if not beginnings[topic] <= offset <= ends[topic]
        }
        if gone:
            raise offsets_gone(gone, self._partition)

    async def _offsets(self, which: Literal["beginning", "end"]) -> dict[InputTopic, int]:
        ask = self._reader.beginning_offsets if which == "beginning" else self._reader.end_offsets
        found = await ask(list(self._tps.values()))
        return {topic: found[tp] for topic, tp in self._tps.items()}


def _told_of_load(mark: Mark) -> str | None:
    """How far the first load has come; None where it is through, or there was none."""
    if not mark.is_loading:
        return None
    assert mark.load is not None
    if mark.is_folded:
        return "its first load: all records are folded, and customers are being decided on"
    taken = mark.load.records_before(mark.offsets)
    return f"its first load: {taken} of {mark.load.records} records are folded"
