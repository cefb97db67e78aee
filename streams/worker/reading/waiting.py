"""What has been fetched of one input and not been taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from streams.worker.reading.arrived import Arrived, UnreadRecords, count_of

Piece = Arrived | UnreadRecords
"""A record, or several of one batch."""


class Run(NamedTuple):
    """Records that were taken at once, in their order; how many they are, and the bytes of their values."""

    pieces: list[Piece]
    records: int
    value_bytes: int


class Waiting:
    """Records in the order of their offsets."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self.count = 0
        self.size_bytes = 0
        """Of keys and values."""

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)

    @property
    def head(self) -> Piece:
        """The first record, or those of its batch; there must be one."""
        return self._pieces[0]

    def clear(self) -> None:
        """Hold nothing."""
        self._pieces.clear()
        self.count = self.size_bytes = 0

    def put(self, pieces: Iterable[Piece]) -> None:
        """Hold these too, behind all others."""
        for piece in pieces:
            self._pieces.append(piece)
            self.count += count_of(piece)
            self.size_bytes += _size_bytes(piece)

    def take_run(
        self,
        time_us: Callable[[Piece], int | None],
        before_us: int,
        most_records: int,
        most_bytes: int,
    ) -> Run:
        """The next records up to the first one whose time is `before_us` or later.

        A record without a time does not end the run. The last record is the first with which one of the limits is
        reached.
        """
        pieces = self._pieces
        taken: list[Piece] = []
        count = value_bytes = 0
        while pieces and count < most_records and value_bytes < most_bytes:
            head = pieces[0]
            at_us = time_us(head)
            if at_us is not None and at_us >= before_us:
                break
            if isinstance(head, Arrived):
                value_bytes += len(head.record.value or b"")
                count += 1
                taken.append(self._pop())
                continue
            end = head.batch.end_of_run(head.first, most_records - count, most_bytes - value_bytes)
            value_bytes += head.batch.sizes(head.first, end)[0]
            count += end - head.first
            taken.append(self._pop_up_to(end))
        return Run(taken, count, value_bytes)

    def take_before(self, offset: int, most_records: int) -> list[Piece]:
        """The next records of offsets before this one: at most so many."""
        taken: list[Piece] = []
        while most_records > 0 and self.has_before(offset):
            head = self._pieces[0]
            if isinstance(head, Arrived):
                taken.append(self._pop())
            else:
                end = min(head.first + most_records, head.end, head.batch.place_of(offset))
                taken.append(self._pop_up_to(end))
            most_records -= count_of(taken[-1])
        return taken

    def has_before(self, offset: int) -> bool:
        """Whether the first record is one before this offset."""
        return bool(self._pieces) and _first_offset(self._pieces[0]) < offset

    def _pop(self) -> Piece:
        piece = self._pieces.popleft()
        self.count -= count_of(piece)
        self.size_bytes -= _size_bytes(piece)
        return piece

    def _pop_up_to(self, end: int) -> Piece:
        """Those of the first batch up to a place in it."""
        piece = self._pop()
        if isinstance(piece, Arrived) or end >= piece.end:
            return piece
        piece, behind = piece.split(end)
        self._pieces.appendleft(behind)
        self.count += len(behind)
        self.size_bytes += _size_bytes(behind)
        return piece


def _first_offset(piece: Piece) -> int:
    return int(piece.record.offset) if isinstance(piece, Arrived) else piece.batch.offset(piece.first)


def _size_bytes(piece: Piece) -> int:
    if isinstance(piece, Arrived):
        return len(piece.record.key or b"") + len(piece.record.value or b"")
    return piece.batch.sizes(piece.first, piece.end)[1]
