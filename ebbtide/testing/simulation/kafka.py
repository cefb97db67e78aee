"""Apache Kafka in memory: logs with transactions and retention, their coordinator, committed offsets, and groups.

Requests take effect at once and whole; that they are late, lost or repeated is the network's doing (`process`).
Markers of a transaction's end reach its partitions one by one, later. As a broker with KIP-890's check does, a
partition takes a transaction's records only while the coordinator knows of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidTxnState,
    OffsetOutOfRangeError,
    ProducerFenced,
)
from aiokafka.structs import OffsetAndMetadata

Headers = tuple[tuple[str, bytes], ...]
LONGEST_MARKER_DELAY_S = 0.3


class Visibility(Enum):
    """Who may read an entry of a log."""

    COMMITTED = "committed"
    OPEN = "open"
    ABORTED = "aborted"
    CONTROL = "control"


@dataclass(slots=True)
class Entry:
    """One offset of a log; `transaction` numbers the transaction that it came in."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    visibility: Visibility
    producer_id: int | None = None
    transaction: int | None = None


@dataclass(slots=True)
class Log:
    """One partition of a topic; offsets below `beginning` are gone."""

    entries: list[Entry] = field(default_factory=list)
    beginning: int = 0
    batches: set[int] = field(default_factory=set)

    @property
    def last_stable_offset(self) -> int:
        """The first offset of the oldest transaction that is still open; else the end."""
        return next(
            (entry.offset for entry in self.entries if entry.visibility is Visibility.OPEN), len(self.entries)
        )

    def committed(self) -> list[Entry]:
        """What a read_committed reader who had always been there has seen, in its order."""
        return [
            entry
            for entry in self.entries[: self.last_stable_offset]
            if entry.visibility is Visibility.COMMITTED
        ]


class Status(Enum):
    """Where a transactional id is."""

    EMPTY = "empty"
    ONGOING = "ongoing"
    PREPARE_COMMIT = "prepare commit"
    PREPARE_ABORT = "prepare abort"
    COMPLETE_COMMIT = "complete commit"
    COMPLETE_ABORT = "complete abort"


@dataclass(slots=True)
class Transactional:
    """What the coordinator knows of a transactional id; `number` counts its transactions across all ids."""

    producer_id: int
    epoch: int = -1
    status: Status = Status.EMPTY
    number: int = 0
    partitions: set[TopicPartition] = field(default_factory=set)
    offsets: dict[tuple[str, TopicPartition], OffsetAndMetadata] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction that was committed, and when, in microseconds."""

    number: int
    at_us: int
    offsets: Mapping[TopicPartition, OffsetAndMetadata]


@dataclass(slots=True)
class Group:
    """A consumer group: who is in it, and which partitions each member has been given."""

    partitions: int
    session_timeout_s: float
    seen_at_s: dict[str, float] = field(default_factory=dict)
    generation: int = 0

    def heartbeat(self, member: str, now_s: float) -> tuple[int, list[int]]:
        """Join or stay; gives the generation and the member's partitions, those of the range assignor."""
        gone = [name for name, at_s in self.seen_at_s.items() if now_s - at_s > self.session_timeout_s]
        for name in gone:
            del self.seen_at_s[name]
        if gone or member not in self.seen_at_s:
            self.generation += 1
        self.seen_at_s[member] = now_s
        members = sorted(self.seen_at_s)
        place, each = members.index(member), self.partitions / len(members)
        return self.generation, list(range(round(place * each), round((place + 1) * each)))

    def leave(self, member: str) -> None:
        """Go; the others share what it had."""
        if self.seen_at_s.pop(member, None) is not None:
            self.generation += 1


class Kafka:
    """The cluster as one."""

    def __init__(self, rng: random.Random, now_ms: Callable[[], int]) -> None:
        self.logs: dict[TopicPartition, Log] = {}
        self.offsets: dict[tuple[str, TopicPartition], OffsetAndMetadata] = {}
        self.groups: dict[str, Group] = {}
        self.commits: list[Committed] = []
        self.transactional: dict[str, Transactional] = {}
        self._rng = rng
        self._now_ms = now_ms
        self._numbers = 0
        self._waiting: list[asyncio.Future[None]] = []

    # ------------------------------------------------------------ logs

    def append(
        self, tp: TopicPartition, records: Iterable[tuple[bytes | None, bytes | None, Headers]]
    ) -> None:
        """Take records that belong to no transaction."""
        for key, value, headers in records:
            self._add(tp, key, value, headers, Visibility.COMMITTED)
        self._wake()

    def skip(self, tp: TopicPartition) -> None:
        """Use up an offset, as the end of some producer's transaction does."""
        self._add(tp, None, None, (), Visibility.CONTROL)

    def fetch(self, tp: TopicPartition, offset: int, most: int) -> tuple[list[Entry], int]:
        """Committed records from an offset, and where to read on.

        Raises:
            OffsetOutOfRangeError: retention has taken it.
        """
        log = self.logs[tp]
        if offset < log.beginning:
            raise OffsetOutOfRangeError({tp: offset})
        found: list[Entry] = []
        end = log.last_stable_offset
        while offset < end and len(found) < most:
            if log.entries[offset].visibility is Visibility.COMMITTED:
                found.append(log.entries[offset])
            offset += 1
        return found, offset

    def changed(self) -> asyncio.Future[None]:
        """Done once a log has changed."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def _add(
        self,
        tp: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        visibility: Visibility,
        producer_id: int | None = None,
        number: int | None = None,
    ) -> None:
        log = self.logs[tp]
        log.entries.append(
            Entry(len(log.entries), key, value, headers, self._now_ms(), visibility, producer_id, number)
        )

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    # ------------------------------------------------------------ transactions

    def init_producer_id(self, transactional_id: str) -> tuple[int, int]:
        """Fence whoever had the id before; raises `ConcurrentTransactions` until their last transaction has ended."""
        known = self.transactional.get(transactional_id)
        if known is None:
            known = self.transactional[transactional_id] = Transactional(1_000 + len(self.transactional))
        if known.status is Status.ONGOING:
            known.epoch += 1  # fenced from now on
            self._prepare(known, commit=False)
        if known.status in (Status.PREPARE_COMMIT, Status.PREPARE_ABORT):
            raise ConcurrentTransactions
        known.epoch += 1
        known.status = Status.EMPTY
        return known.producer_id, known.epoch

    def add_to_transaction(self, transactional_id: str, epoch: int, tp: TopicPartition | None) -> None:
        """Let a partition, or the group's offsets, take part; begins the transaction if there is none."""
        known = self._current(transactional_id, epoch)
        if known.status in (Status.PREPARE_COMMIT, Status.PREPARE_ABORT):
            raise ConcurrentTransactions
        if known.status is not Status.ONGOING:
            self._numbers += 1
            known.status, known.number = Status.ONGOING, self._numbers
        if tp is not None:
            known.partitions.add(tp)

    def produce(
        self,
        transactional_id: str,
        epoch: int,
        tp: TopicPartition,
        batch: int,
        records: Sequence[tuple[bytes | None, bytes | None, Headers]],
    ) -> int:
        """Take a batch of a transaction, unless it is here already; gives its stamp in milliseconds."""
        known = self._current(transactional_id, epoch)
        if known.status is not Status.ONGOING or tp not in known.partitions:
            raise InvalidTxnState
        if batch not in self.logs[tp].batches:
            self.logs[tp].batches.add(batch)
            for key, value, headers in records:
                self._add(tp, key, value, headers, Visibility.OPEN, known.producer_id, known.number)
        return self._now_ms()

    def commit_offsets(
        self,
        transactional_id: str,
        epoch: int,
        group: str,
        offsets: Mapping[TopicPartition, OffsetAndMetadata],
    ) -> None:
        """Offsets that hold once the transaction is committed. No group generation is asked for."""
        known = self._current(transactional_id, epoch)
        if known.status is not Status.ONGOING:
            raise InvalidTxnState
        known.offsets.update({(group, tp): offset for tp, offset in offsets.items()})

    def end_transaction(self, transactional_id: str, epoch: int, commit: bool) -> None:
        """Commit or abort; a repeat of what was done is well."""
        known = self._current(transactional_id, epoch)
        preparing, complete = (
            (Status.PREPARE_COMMIT, Status.COMPLETE_COMMIT)
            if commit
            else (Status.PREPARE_ABORT, Status.COMPLETE_ABORT)
        )
        if known.status is complete:
            return
        if known.status is preparing:
            raise ConcurrentTransactions
        if known.status is not Status.ONGOING:
            raise InvalidTxnState
        self._prepare(known, commit=commit)

    def stable_offsets(
        self, group: str, tps: Iterable[TopicPartition]
    ) -> list[OffsetAndMetadata | None] | None:
        """What a group has committed; None while a transaction on it is pending."""
        asked = [(group, tp) for tp in tps]
        pending = {key for known in self.transactional.values() for key in known.offsets}
        return None if pending.intersection(asked) else [self.offsets.get(key) for key in asked]

    def _current(self, transactional_id: str, epoch: int) -> Transactional:
        known = self.transactional[transactional_id]
        if epoch < known.epoch:
            raise ProducerFenced if known.status is not Status.ONGOING else InvalidProducerEpoch
        return known

    def _prepare(self, known: Transactional, *, commit: bool) -> None:
        """The outcome is settled; the partitions learn it one after the other."""
        known.status = Status.PREPARE_COMMIT if commit else Status.PREPARE_ABORT
        loop = asyncio.get_running_loop()
        left: set[TopicPartition | None] = {None, *known.partitions}

        def reach(tp: TopicPartition | None) -> None:
            if tp is None:
                if commit:
                    self.offsets.update(known.offsets)
                    self.commits.append(
                        Committed(
                            known.number,
                            self._now_ms() * 1_000,
                            {of: offset for (_, of), offset in known.offsets.items()},
                        )
                    )
                known.offsets = {}
            else:
                self._write_marker(
                    tp, known.producer_id, Visibility.COMMITTED if commit else Visibility.ABORTED
                )
            left.discard(tp)
            if not left:
                known.partitions = set()
                known.status = Status.COMPLETE_COMMIT if commit else Status.COMPLETE_ABORT

        order = [None, *sorted(known.partitions)]
        for tp in order:
            loop.call_later(self._rng.uniform(0, LONGEST_MARKER_DELAY_S), reach, tp)

    def _write_marker(self, tp: TopicPartition, producer_id: int, visibility: Visibility) -> None:
        for entry in reversed(self.logs[tp].entries):
            if entry.producer_id == producer_id:
                if entry.visibility is not Visibility.OPEN:
                    break
                entry.visibility = visibility
        self.skip(tp)
        self._wake()
