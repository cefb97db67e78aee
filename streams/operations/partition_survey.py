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
from streams.checkpoint import Checkpoint
from streams.errors import EbbtideError, one_line
from streams.kafka.clients import Consumer
from streams.kafka.committed_checkpoint import checkpoint_of
from streams.kafka.size_limits import StoppedError
from streams.kafka.topic_identity import check_inputs, lost_changelog
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.partition_facts import facts_after
from streams.state.store import StateStore, StoredCheckpoint
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clients import Clients, RealClients
from streams.worker.reading.errors import offsets_gone
from streams.worker.recovery import RecoveryCase, check_first_start, check_resumable, compare
from streams.worker.restoring.restore import LogTooShortError, check_reach, read_changelog

AT_ONCE: Final = 8
LOOKS: Final = 3
LOOK_AGAIN_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """What is said of a partition; an `ok` message does not name it, so that equal ones can be counted."""

    partition: int
    status: Literal["ok", "warning", "error"]
    message: str


async def survey(settings: Settings, model: Model) -> list[PartitionHealth]:
    """For each partition of the inputs: why it stopped, and what a recovery would find now.

    Raises:
        EbbtideError: Kafka or Redis does not answer.
    """
    clients = RealClients(settings)
    try:
        async with _reader(settings, clients) as reader:
            count = len(reader.partitions_for_topic(settings.topic(INPUT_TOPICS[0])) or ())
            turns = asyncio.Semaphore(AT_ONCE)
            ids = await clients.topic_ids()
            probes = [
                PartitionProbe(settings, model, clients, reader, ids, partition) for partition in range(count)
            ]
            said = await asyncio.gather(*(probe.healths(turns) for probe in probes))
    except (KafkaError, RedisError, OSError, TimeoutError) as error:
        raise EbbtideError(f"the partitions cannot be looked at: {one_line(error)}") from error
    finally:
        await clients.redis.aclose()
    return [health for healths in said for health in healths]


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


class PartitionProbe:
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

    async def healths(self, turns: asyncio.Semaphore) -> list[PartitionHealth]:
        """Why the partition stopped or is stuck, and what else stands in the way of a recovery."""
        async with turns:
            stop, stuck = await self._store.kept_troubles()
            failing = await self._store.told_failing() if stop is None and stuck is None else None
            found = await self._found()
        if stop is None and stuck is not None:
            partition, offset = self._partition, stuck.first
            way_out = f"`ebbtide skip --topic {stuck.topic} --partition {partition} --offset {offset}` passes it over"
            return [
                PartitionHealth(
                    partition, "error", f"partition {partition}: stuck: {stuck.reason}; {way_out}"
                )
            ]
        if failing is not None:
            said = f"partition {self._partition}: stuck: {one_line(failing.reason)}"
            return [PartitionHealth(self._partition, "error", f"{said} (since {format_time(failing.at_us)})")]
        if stop is None:
            return [found]
        kept = PartitionHealth(self._partition, "error", f"{stop.reason} (since {format_time(stop.at_us)})")
        is_news = found.status != "ok" and found.message != stop.reason
        return [kept, found] if is_news else [kept]

    async def _found(self) -> PartitionHealth:
        try:
            return PartitionHealth(self._partition, *await self._take_over())
        except (StoppedError, LogTooShortError) as error:
            return PartitionHealth(self._partition, "error", str(error))
        except EbbtideError as error:
            return PartitionHealth(self._partition, "warning", f"partition {self._partition}: {error}")

    async def _take_over(self) -> tuple[Literal["ok", "warning"], str]:
        """What a recovery would find; raises what would stop it."""
        await self._check_topics()
        beginnings = await self._offsets("beginning")
        if self._settings.processing_guarantee == "at_least_once":
            stored = await self._store.stored_checkpoint()
            check_resumable(stored, self._partition)
            if stored is None:
                return "ok", RecoveryCase.FIRST_START.value
            await self._check_still_there(stored.checkpoint, beginnings)
            return "ok", _told_of_load(stored.checkpoint) or "Redis says where to go on from"
        compared = await self._compare()
        if compared is None:
            stored = await self._store.stored_checkpoint()
            return "ok", (
                None if stored is None else _told_of_load(stored.checkpoint)
            ) or "a worker is at work"
        finding, stored, committed = compared
        if committed is None:
            await check_first_start(self._settings, self._clients, self._partition)
            return "ok", finding.value
        if finding is RecoveryCase.LOST_WRITES and committed.batch_id > 0:
            starts = {} if committed.load is None else committed.load.starts
            check_reach(self._settings, self._partition, beginnings, starts)
            table = await read_changelog(self._settings, self._clients, self._partition)
            facts_after(table.facts, self._settings, self._partition, is_begun=True)
        await self._check_still_there(committed, beginnings)
        if finding is RecoveryCase.LOST_WRITES:
            is_begun = stored is not None and stored.is_restoring
            what = "its restore is not done" if is_begun else f"{finding.value}: it will be restored"
            return "warning", f"partition {self._partition}: {what}, up to micro-batch {committed.batch_id}"
        return "ok", _told_of_load(committed) or finding.value

    async def _check_topics(self) -> None:
        """Raise where the topics are not those that were read before. A recovery goes on without the decisions."""
        stored = await self._store.stored_checkpoint()
        if stored is None:
            return
        check_inputs(self._settings, self._partition, stored.topic_ids, self._topic_ids)
        lost = lost_changelog(self._settings, stored.topic_ids, self._topic_ids)
        if lost is not None:
            raise StoppedError(f"partition {self._partition}: {lost}")

    async def _compare(self) -> tuple[RecoveryCase, StoredCheckpoint | None, Checkpoint | None] | None:
        """Redis against Kafka; None while a worker moves on.

        Redis is read before and after Kafka: where it has not moved, what Kafka said in between belongs to it. Offsets
        may be committed while they are read, so that only what is wrong at every look is so.
        """
        for attempt in range(LOOKS):
            await asyncio.sleep(LOOK_AGAIN_S if attempt else 0)
            stored = await self._store.stored_checkpoint()
            found = await self._clients.committed_offsets(self._partition)
            if await self._store.stored_checkpoint() != stored:
                continue
            try:
                committed = checkpoint_of(found, self._settings.group_id, self._partition)
                return compare(stored, committed, self._partition), stored, committed
            except StoppedError:
                if attempt == LOOKS - 1:
                    raise
        return None

    async def _check_still_there(self, checkpoint: Checkpoint, beginnings: dict[InputTopic, int]) -> None:
        ends = await self._offsets("end")
        gone = {
            self._tps[topic]: offset
            for topic, offset in checkpoint.offsets.items()
            if not beginnings[topic] <= offset <= ends[topic]
        }
        if gone:
            raise offsets_gone(gone, self._partition)

    async def _offsets(self, which: Literal["beginning", "end"]) -> dict[InputTopic, int]:
        ask = self._reader.beginning_offsets if which == "beginning" else self._reader.end_offsets
        found = await ask(list(self._tps.values()))
        return {topic: found[tp] for topic, tp in self._tps.items()}


def _told_of_load(checkpoint: Checkpoint) -> str | None:
    """How far the first load has come; None where it is through, or there was none."""
    if not checkpoint.is_loading:
        return None
    assert checkpoint.load is not None
    if checkpoint.is_folded:
        return "its first load: all records are folded, and customers are being decided on"
    taken = checkpoint.load.records_before(checkpoint.offsets)
    return f"its first load: {taken} of {checkpoint.load.records} records are folded"
