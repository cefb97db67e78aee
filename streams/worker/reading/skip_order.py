"""What a person asked the owner of a partition to pass over, and how the dead letter says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.rejection import SKIPPED, Rejection, rejection
from schemas.topics import InputTopic
from streams.state.stuck import SkipRequest, Stuck


@dataclass(frozen=True, slots=True)
class SkipOrder:
    """A request, and where the partition was stuck when it was made: it holds there alone."""

    request: SkipRequest
    stuck: Stuck

    def covers(
        self, at: Literal["batch", "silence", "record"], topic: InputTopic, first: int, next_offset: int
    ) -> bool:
        """Whether it asks to skip one of these offsets, where an input is stuck in this way."""
        request = self.request
        return self.stuck.at == at and topic == request.topic and first <= request.offset < next_offset

    def rejection(self) -> Rejection:
        """Why what was asked for is skipped."""
        why = f": {self.request.why}" if self.request.why else ""
        return rejection(
            SKIPPED, (), f"skipped by {self.request.by}{why}; it was stuck there: {self.stuck.reason}"
        )
