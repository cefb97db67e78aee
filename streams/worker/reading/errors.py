"""Errors of an input: it gives nothing from an offset on, or the offset is not in the log."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import TopicPartition

from streams.errors import EbbtideError
from streams.kafka.size_limits import StoppedError
from streams.state.stuck import Stuck


class StuckError(EbbtideError):
    """An input gives nothing from an offset on."""

    def __init__(self, stuck: Stuck) -> None:
        super().__init__(stuck.reason)
        self.stuck = stuck


class StalledError(StuckError):
    """Kafka holds more of an input than the consumer gives, and the consumer says nothing of an error."""


class UnreadableInputError(StuckError):
    """The next batch of an input cannot be read, and does not count as unreadable yet."""


class RecordError(StuckError):
    """A record that no micro-batch survives, by an error that nothing foresees."""


def offsets_gone(offsets: Mapping[TopicPartition, int], partition: int) -> StoppedError:
    """The error for offsets to read from that are not in the log."""
    gone = ", ".join(f"{tp.topic} offset {offset}" for tp, offset in offsets.items())
    return StoppedError(
        f"partition {partition}: stopped: Kafka no longer has {gone}: retention was faster than the worker"
    )
