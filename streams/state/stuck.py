"""Where an input is stuck, what of it counts as unreadable, and what a person asked to be skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from schemas.topics import InputTopic
from streams.kafka.batches import Unreadable, offsets_text

LOOKS: Final = 3
"""Fetches by new connections after the first, before what cannot be read counts as unreadable."""
LOOKS_OVER_S: Final = 30.0
LOOK_AGAIN_S: Final = LOOKS_OVER_S / LOOKS


class Stuck(msgspec.Struct, frozen=True):
    """Where a partition is stuck: at a batch, behind which nothing comes, or at a record that no batch survives."""

    topic: InputTopic
    first: int
    next_offset: int
    at: Literal["batch", "silence", "record"]
    reason: str

    def holds(self, topic: str, offset: int) -> bool:
        """Whether it is stuck at this offset."""
        return topic == self.topic and self.first <= offset < self.next_offset

    @property
    def place(self) -> str:
        """Where, in words."""
        return f"{self.topic} {offsets_text(self.first, self.next_offset)}"


class SkipRequest(msgspec.Struct, frozen=True):
    """What a person asks the owner of a partition to pass over, if it is stuck there."""

    topic: InputTopic
    offset: int
    by: str
    why: str


@dataclass(slots=True)
class _Suspect:
    next_offset: int
    first_seen_s: float
    connection: object
    looks: int = 0


class Suspects:
    """Batches of one partition that could not be read, until they have been looked at often enough, or could be."""

    def __init__(self) -> None:
        self._suspects: dict[tuple[InputTopic, int], _Suspect] = {}

    def __bool__(self) -> bool:
        return bool(self._suspects)

    def note(
        self, topic: InputTopic, batches: Sequence[Unreadable], connection: object, now_s: float
    ) -> None:
        """One fetch through a connection could not read these; a second one through the same adds nothing."""
        for batch in batches:
            key = topic, batch.first
            suspect = self._suspects.setdefault(key, _Suspect(batch.next_offset, now_s, connection))
            if suspect.connection is not connection:
                suspect.connection = connection
                suspect.looks += 1

    def is_settled(self, topic: InputTopic, batch: Unreadable, now_s: float) -> bool:
        """Whether a batch that was noted counts as unreadable."""
        suspect = self._suspects[topic, batch.first]
        return suspect.looks >= LOOKS and now_s - suspect.first_seen_s >= LOOKS_OVER_S

    def progress(self, topic: InputTopic, batch: Unreadable) -> str:
        """How far its being looked at has come, in words."""
        looks = self._suspects[topic, batch.first].looks
        return f"looked at again {looks} of {LOOKS} times before it is skipped"

    def forget_before(self, offsets: Mapping[InputTopic, int]) -> None:
        """What lies before these offsets has been read or skipped."""
        for topic, first in list(self._suspects):
            if first < offsets[topic]:
                del self._suspects[topic, first]
