"""One partition's three inputs: fetched, decoded, and kept until the clock lets them through."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from enrichment.model import Model
from schemas.rejection import UNREADABLE, Rejection, rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.checkpoint import Skipped
from streams.kafka.batches import Unreadable
from streams.kafka.fetched_batch import FetchedBatch, ReadBatch
from streams.kafka.fetching import UnreadableError
from streams.settings import Settings
from streams.state.stuck import SkipRequest, Stuck, Suspects
from streams.timeouts import STOP_TIMEOUT_S, stop_within
from streams.worker.clients import Clients
from streams.worker.reading import silence
from streams.worker.reading.arrived import Arrived, Taken, UnreadRecords, read, record_of, unread
from streams.worker.reading.errors import StalledError, UnreadableInputError
from streams.worker.reading.silence import SilenceWatch
from streams.worker.reading.skip_order import SkipOrder
from streams.worker.reading.waiting import Piece, Run, Waiting

log = logging.getLogger(__name__)

LOOK_MS = 10
"""How long a fetch may take to be answered if something has come already. If nothing has, it costs this long."""
ENOUGH_RECORDS = 10_000
"""Records buffered per input, above which no more are fetched."""
ENOUGH_BYTES = 16 * 1024 * 1024
"""The same, of their keys and values."""


class OpenTransaction(NamedTuple):
    """One that hides what lies behind it from readers of committed records.

    `offset` is where the input stands, `records` how many offsets are hidden, `stands_for_s` for how long it has stood.
    """

    offset: int
    records: int
    stands_for_s: float


class Inputs:
    """Reads `purchases`, `engagements` and `consents` of one partition, from offsets that it is told."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        partition: int,
        model: Model,
        suspects: Suspects | None = None,
    ) -> None:
        self._settings = settings
        self._suspects = Suspects() if suspects is None else suspects
        self._connection = object()
        self._order: SkipOrder | None = None
        self._model = model
        self.partition = partition
        self._reads = True
        self.buffers = {topic: Waiting() for topic in INPUT_TOPICS}
        self._tps = {topic: TopicPartition(settings.topic(topic), partition) for topic in INPUT_TOPICS}
        self._topics: dict[str, InputTopic] = {settings.topic(topic): topic for topic in INPUT_TOPICS}
        self._next: dict[InputTopic, int] = {}
        self._fetched: dict[InputTopic, int] = {}
        self._silence = SilenceWatch()
        self._is_asked = False
        self._ends: dict[InputTopic, int] = {}
        self._high: dict[InputTopic, int] = {}
        self.high_asked_at_us = -1
        self._stands_since_s: dict[InputTopic, float] = {}
        self._ends_are_fresh = False
        self._consumer = clients.consumer(
            client_id=f"ebbtide-{settings.group_id}-{partition}",
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
        )

    async def open(self) -> None:
        """Connect; nothing is read before `seek`."""
        self._consumer.assign(list(self._tps.values()))
        for tp in self._tps.values():
            self._consumer.pause(tp)
        await self._consumer.start()

    async def close(self) -> None:
        """Let go of the connection, or of waiting for that."""
        await stop_within(STOP_TIMEOUT_S, self._consumer)

    async def beginnings(self) -> dict[InputTopic, int]:
        """The first offset that each input still has."""
        found = await self._consumer.beginning_offsets(list(self._tps.values()))
        return {topic: found[tp] for topic, tp in self._tps.items()}

    async def ends(self) -> dict[InputTopic, int]:
        """How far each input can be read now: its last stable offset."""
        found = await self._consumer.end_offsets(list(self._tps.values()))
        return {topic: found[tp] for topic, tp in self._tps.items()}

    def seek(self, offsets: Mapping[InputTopic, int]) -> None:
        """Read on from here."""
        for topic, tp in self._tps.items():
            self.buffers[topic].clear()
            self._next[topic] = self._fetched[topic] = offsets[topic]
            self._consumer.seek(tp, offsets[topic])
            self._consumer.resume(tp)
        self._silence.begin(asyncio.get_running_loop().time())
        self._is_asked = False
        self._ends.clear()
        self._high.clear()
        self.high_asked_at_us = -1
        self._stands_since_s.clear()

    def skip(self, request: SkipRequest, stuck: Stuck) -> None:
        """Pass over what a person asked for when the input comes to it, or if it stays silent there."""
        self._order = SkipOrder(request, stuck)

    def leave_unread(self, read_batch: ReadBatch | None) -> None:
        """Leave records unread from now on, in whole batches where `read_batch` takes them, for who reads them itself.

        None: read records, and those that are held.
        """
        self._reads = read_batch is None
        self._consumer.give_batches(read_batch)
        if self._reads:
            for buffer in self.buffers.values():
                held = list(Taken(list(buffer)))
                buffer.clear()
                buffer.put(read(arrived, self._model) for arrived in held)

    async def fill(self, timeout_ms: int, topics: Collection[InputTopic] = INPUT_TOPICS) -> int:
        """Fetch from those of `topics` whose buffer is low; gives how many records came.

        `timeout_ms` is how long to wait where there is nothing; without it, what has come is given all the same.

        At the end of the logs nothing is fetched ahead, so that a batch begins with all that has come by then. aiokafka
        would fetch at once again, take the very first record that comes, and ask no further until that is taken: all
        that came later would wait for the micro-batch after the next one.

        Raises what aiokafka raises; `StalledError` where an input short of its end has given nothing for long; and
        `UnreadableInputError` where the next batch of one cannot be read, until that has been tried often enough.
        """
        wanted = {topic: self._tps[topic] for topic in topics if not self._holds_enough(topic)}
        if not wanted:
            return 0
        before = dict(self._fetched)
        was_asked = self._is_asked
        self._consumer.resume(*wanted.values())
        came = await self._fetch(wanted.values(), timeout_ms or (0 if was_asked else LOOK_MS))
        if came and was_asked and not timeout_ms and self.is_at_end:
            # It has been waiting for who knows how long, alone.
            came += await self._fetch(wanted.values(), LOOK_MS)
        if came:
            self._ends_are_fresh = False
            if self.is_at_end:
                self._consumer.pause(*self._tps.values())
        await self._look_for_stall([topic for topic in wanted if self._fetched[topic] == before[topic]])
        return came

    async def _fetch(self, tps: Collection[TopicPartition], timeout_ms: int) -> int:
        """Buffer what comes of these within a time; gives how many records those are."""
        try:
            fetched = await self._consumer.getmany(*tps, timeout_ms=timeout_ms, max_records=ENOUGH_RECORDS)
        except UnreadableError as error:
            await self._pass_over_settled(error)
            return 1
        came = 0
        for tp, records in fetched.items():
            topic = self._topics[tp.topic]
            before = self.buffers[topic].count
            self.buffers[topic].put(piece for record in records for piece in self._pieces(record, topic))
            came += self.buffers[topic].count - before
        now_s = asyncio.get_running_loop().time()
        for topic, tp in self._tps.items():
            position, self._fetched[topic] = self._fetched[topic], await self._consumer.position(tp)
            if self._fetched[topic] > position or self._open_records(topic) == 0:
                self._stands_since_s.pop(topic, None)
            else:
                self._stands_since_s.setdefault(topic, now_s)
        # A fetch that found nothing goes on waiting at the broker, and where there is more, the next one is under way.
        self._is_asked = not fetched or not self.is_at_end
        return came

    def _holds_enough(self, topic: InputTopic) -> bool:
        buffer = self.buffers[topic]
        return buffer.count >= ENOUGH_RECORDS or buffer.size_bytes >= ENOUGH_BYTES

    def _pieces(self, fetched: ConsumerRecord | FetchedBatch, topic: InputTopic) -> Iterable[Piece]:
        """What was fetched, as it waits to be taken."""
        if not isinstance(fetched, FetchedBatch):
            return [self._arrived(fetched, topic)]
        if self._order is None and not self._reads:
            return [UnreadRecords.of(topic, fetched)]
        tp, batch, first = fetched
        places = range(first, len(batch))
        return [self._arrived(record_of(tp, batch, place), topic) for place in places]

    def _arrived(self, record: ConsumerRecord, topic: InputTopic) -> Arrived:
        """A record with what it says, or as one that a person asked to be skipped."""
        order = self._order
        if order and order.covers("record", topic, record.offset, record.offset + 1):
            skipped = Skipped(topic, record.offset, record.offset + 1)
            return Arrived(topic, record, order.rejection(), None, skipped)
        arrived = unread(record, topic)
        return read(arrived, self._model) if self._reads else arrived

    async def _pass_over_settled(self, error: UnreadableError) -> None:
        """Pass over a batch that counts as unreadable; raise `UnreadableInputError` for one that does not yet."""
        topic, batch = self._topics[error.tp.topic], error.batches[0]
        now_s = asyncio.get_running_loop().time()
        self._suspects.note(topic, error.batches, self._connection, now_s)
        order = self._order
        if order and order.covers("batch", topic, batch.first, batch.next_offset):
            self._pass_over(topic, batch, order.rejection())
        elif self._suspects.is_settled(topic, batch, now_s):
            why = rejection(UNREADABLE, (), f"{batch.offsets} cannot be read: {batch.why}")
            self._pass_over(topic, batch, why)
        else:
            await self._note_others(topic)
            reason = f"{error}; {self._suspects.progress(topic, batch)}"
            raise UnreadableInputError(Stuck(topic, batch.first, batch.next_offset, "batch", reason))

    async def _note_others(self, stuck_topic: InputTopic) -> None:
        """Note what cannot be read of the other inputs, so that they are looked at together with this one.

        The partition is taken over anew, so the records that come are not missed.
        """
        others = [tp for topic, tp in self._tps.items() if topic != stuck_topic]
        for _ in others:
            try:
                await self._consumer.getmany(*others, timeout_ms=LOOK_MS, max_records=ENOUGH_RECORDS)
            except UnreadableError as error:
                now_s = asyncio.get_running_loop().time()
                self._suspects.note(self._topics[error.tp.topic], error.batches, self._connection, now_s)

    def _pass_over(self, topic: InputTopic, batch: Unreadable, why: Rejection) -> None:
        """Take a batch for one record that is refused, and read on behind it."""
        tp = self._tps[topic]
        last = batch.next_offset - 1
        record = ConsumerRecord(
            tp.topic, tp.partition, last, -1, None, None, batch.raw or None, None, -1, len(batch.raw), ()
        )
        skipped = Skipped(topic, batch.first, batch.next_offset)
        log.error("%s, partition %d: %s", tp.topic, tp.partition, why.message)
        self.buffers[topic].put([Arrived(topic, record, why, None, skipped)])
        self._consumer.seek(tp, batch.next_offset)
        self._fetched[topic] = batch.next_offset

    def is_past(self, stuck: Stuck) -> bool:
        """Whether an input goes on behind where it was stuck, and micro-batches have taken all that was skipped."""
        topic = stuck.topic
        if stuck.at == "record":  # that it comes says nothing
            return self._next[topic] > stuck.first
        if any(isinstance(piece, Arrived) and piece.skipped is not None for piece in self.buffers[topic]):
            return False
        return self._fetched[topic] > stuck.first or self.is_caught_up(topic)

    async def _look_for_stall(self, silent: Collection[InputTopic]) -> None:
        """Count how long these inputs have given nothing; raise `StalledError` where that is long and there is more."""
        doubtful = self._silence.look(silent, asyncio.get_running_loop().time())
        if doubtful:
            ends = await self._consumer.end_offsets([self._tps[topic] for topic in doubtful])
            self._silence.note_ends(self._fetched, {topic: ends[self._tps[topic]] for topic in doubtful})
        for topic, end in self._silence.short_of.items():
            first, order = self._fetched[topic], self._order
            if order and order.covers("silence", topic, first, first + 1):
                self._pass_over(topic, Unreadable(first, first + 1, "", b""), order.rejection())
                self._silence.pass_over(topic)
            elif self._silence.is_stalled(topic):
                reason = (
                    f"{self._tps[topic].topic}, partition {self.partition}: nothing came from offset "
                    f"{first} on for {silence.STALLED_AFTER_S:g} s, though it ends at {end}"
                )
                raise StalledError(Stuck(topic, first, first + 1, "silence", reason))

    async def ask_ends(self, now_us: int | None, *, with_high: bool) -> None:
        """Ask how far each input can be read now, and, `with_high`, for its high watermark.

        `high_asked_at_us` is then this time, or, for None, before any midnight. The high watermark is kept until it is
        asked for again: where some transaction is always open, the position reaches it, and never the latest one.
        """
        tps = list(self._tps.values())
        self._ends = await self.ends()
        if with_high:
            high = await self._consumer.high_watermarks(tps)
            self._high = {topic: high[tp] for topic, tp in self._tps.items()}
            self.high_asked_at_us = -1 if now_us is None else now_us
            self._ends_are_fresh = True

    def is_caught_up(self, topic: InputTopic) -> bool:
        """Whether everything has been taken up to the end that was last asked for, and to that of the latest fetch.

        Both must be known: the embedded broker's answer to the question is that of its last batch's first record.
        """
        if self.buffers[topic] or topic not in self._ends:
            return False
        return self._has_fetched_all(topic) and self._fetched[topic] >= self._ends[topic]

    def has_taken_all(self, topic: InputTopic) -> bool:
        """Whether everything has been taken up to the high watermark that was last asked for.

        Behind an open transaction this is false, however long; but for `open_transaction_wait_h`, if it is set.
        """
        if not self.is_caught_up(topic) or topic not in self._high:
            return False
        return self._fetched[topic] >= self._high[topic] or self._has_waited_enough(topic)

    def _has_waited_enough(self, topic: InputTopic) -> bool:
        wait_h = self._settings.open_transaction_wait_h
        return wait_h is not None and self._stands_for_s(topic) >= wait_h * 3_600

    @property
    def needs_high(self) -> bool:
        """Whether records have come since the high watermarks were asked for."""
        return not self._ends_are_fresh

    def is_behind_nothing(self, topic: InputTopic) -> bool:
        """Whether nothing unread here is older than what was fetched from the other inputs."""
        return self._ends_are_fresh and self.has_taken_all(topic)

    def open_transactions(self) -> dict[InputTopic, OpenTransaction]:
        """By input, what hides records from readers of committed ones; nothing where the log can be read to its end."""
        return {
            topic: OpenTransaction(self._fetched[topic], records, self._stands_for_s(topic))
            for topic in self._tps
            if topic in self._fetched and (records := self._open_records(topic))
        }

    def _open_records(self, topic: InputTopic) -> int:
        """How many offsets lay behind the latest fetch's last stable one."""
        tp = self._tps[topic]
        high, stable = self._consumer.highwater(tp), self._consumer.last_stable_offset(tp)
        if high is None or stable in (None, -1):
            return 0
        return max(0, high - max(stable, self._fetched[topic]))

    def _stands_for_s(self, topic: InputTopic) -> float:
        """How long an input has stood at the same offset, before an open transaction."""
        now_s = asyncio.get_running_loop().time()
        return now_s - self._stands_since_s.get(topic, now_s)

    def lag(self) -> dict[InputTopic, int]:
        """Records of each input up to its last known end that have not been taken; without those of no known end.

        The end is that of the latest fetch or question, whichever is farther: as far as transactions are settled.
        """
        lags: dict[InputTopic, int] = {}
        for topic in self._tps:
            known = self._ends.get(topic), self._fetched_end(topic)
            ends = [end for end in known if end is not None]
            if ends and topic in self._next:
                # Where nothing is buffered, what lies between is no record, such as a transaction's end.
                at = self._next[topic] if self.buffers[topic] else self._fetched[topic]
                lags[topic] = max(0, max(ends) - at)
        return lags

    @property
    def is_at_end(self) -> bool:
        """Whether the latest fetches came to the end of each input, as it was then."""
        return all(map(self._has_fetched_all, self._tps))

    def _has_fetched_all(self, topic: InputTopic) -> bool:
        """Whether the latest fetch came to the end."""
        end = self._fetched_end(topic)
        return end is not None and self._fetched[topic] >= end

    def _fetched_end(self, topic: InputTopic) -> int | None:
        """The end of settled transactions that the latest fetch told, or the log's; None before any fetch."""
        tp = self._tps[topic]
        stable = self._consumer.last_stable_offset(tp)
        return self._consumer.highwater(tp) if stable in (None, -1) else stable

    def take_run(
        self,
        topic: InputTopic,
        time_us: Callable[[Piece], int | None],
        before_us: int,
        most_records: int,
        most_bytes: int,
    ) -> Run:
        """The next records of an input up to a time; `Waiting.take_run` says where a run ends."""
        run = self.buffers[topic].take_run(time_us, before_us, most_records, most_bytes)
        if run.pieces:
            self._next[topic] = run.pieces[-1].next_offset
        return run

    def take_before(self, topic: InputTopic, end: int, most_records: int) -> list[Piece]:
        """The next records of an input from before an offset: at most so many, of those that have been fetched.

        Empty where none has been fetched. Once nothing before the offset is left, the input goes on from there, though
        what lies between may be no records.
        """
        buffer = self.buffers[topic]
        run = buffer.take_before(end, most_records)
        if run:
            self._next[topic] = run[-1].next_offset
        if not buffer.has_before(end) and (buffer or self._fetched[topic] >= end):
            self._next[topic] = max(self._next[topic], end)
        return run

    @property
    def offsets(self) -> dict[InputTopic, int]:
        """The next offset of each input that has not been taken."""
        return dict(self._next)
