"""Checkpoints: how far a partition has come, said alike by Redis and by Kafka's committed offsets."""

from __future__ import annotations

import secrets

import msgspec

from schemas.topics import InputTopic


class FirstLoad(msgspec.Struct, frozen=True):
    """What a partition found when it began by the wall clock: the records from `starts` up to, and without, `ends`.

    They are folded without deciding, and then everybody is decided on once, as of the later of `midnight_day` and their
    latest record. Kept for good, because a restore folds them likewise; `is_over` once everybody has been decided on.
    """

    starts: dict[InputTopic, int]
    ends: dict[InputTopic, int]
    midnight_day: int
    is_over: bool = False

    @property
    def records(self) -> int:
        """How many offsets it takes."""
        return self.records_before(self.ends)

    def records_before(self, offsets: dict[InputTopic, int]) -> int:
        """How many of them lie before these offsets."""
        return sum(offsets[topic] - start for topic, start in self.starts.items())


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a partition has come: said alike by Redis, and by the metadata of Kafka's committed offsets.

    `offsets` are the next to read, by topic without prefix; `midnight_day` is the day of the last midnight passed.
    `load` is None by the event clock, and for a partition that was begun before there were first loads.
    """

    batch_id: int
    token: str
    midnight_day: int
    offsets: dict[InputTopic, int]
    load: FirstLoad | None = None

    @property
    def is_loading(self) -> bool:
        """Whether the first load is not through yet."""
        return self.load is not None and not self.load.is_over

    @property
    def is_folded(self) -> bool:
        """Whether all records of the first load, if there is one, have been taken."""
        return self.load is None or all(self.offsets[topic] >= end for topic, end in self.load.ends.items())

    def next(
        self, midnight_day: int, offsets: dict[InputTopic, int], *, ends_load: bool = False
    ) -> Checkpoint:
        """The next checkpoint; `ends_load` says that its micro-batch is the last of the first load."""
        load = self.load
        if load is not None and ends_load:
            load = msgspec.structs.replace(load, is_over=True)
        return Checkpoint(self.batch_id + 1, secrets.token_hex(8), midnight_day, offsets, load)


class Skipped(msgspec.Struct, frozen=True, order=True):
    """Offsets of an input that were passed over: from `first` up to, and without, `next_offset`."""

    topic: InputTopic
    first: int
    next_offset: int
