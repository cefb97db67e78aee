"""What comes of an input: a record with what it says, or an error where nothing comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from enrichment.customer.validation import check_against_model, check_time
from enrichment.model import Model
from schemas.dead_letters import Rejection
from schemas.decode import decode
from schemas.events import Event
from schemas.topics import InputTopic
from streams.checkpoint import Skipped
from streams.errors import EbbtideError
from streams.kafka.size_limits import StoppedError
from streams.state.stuck import Stuck

LOG_APPEND_TIME = 1


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


class Arrived(NamedTuple):
    """A record with what it says, or why it says nothing.

    `broker_timestamp_us` is when the broker took it; None where the broker does not say. Where offsets are skipped,
    `skipped` says which, the record holds the bytes that were there, and its offset is the last of them.
    """

    topic: InputTopic
    record: ConsumerRecord
    event: Event | Rejection
    broker_timestamp_us: int | None
    skipped: Skipped | None = None


class OpenTransaction(NamedTuple):
    """One that hides what lies behind it from readers of committed records.

    `offset` is where the input stands, `records` how many offsets are hidden, `stands_for_s` for how long it has stood.
    """

    offset: int
    records: int
    stands_for_s: float


def offsets_gone(offsets: Mapping[TopicPartition, int], partition: int) -> StoppedError:
    """The error for offsets to read from that are not in the log."""
    gone = ", ".join(f"{tp.topic} offset {offset}" for tp, offset in offsets.items())
    return StoppedError(
        f"partition {partition}: stopped: Kafka no longer has {gone}: retention was faster than the worker"
    )


def arrived_of(record: ConsumerRecord, topic: InputTopic, model: Model) -> Arrived:
    """A record with what it says, as far as it takes no customer to tell."""
    stamped_us = int(record.timestamp) * 1_000 if record.timestamp_type == LOG_APPEND_TIME else None
    event = decode(topic, record.value, record.key)
    if isinstance(event, Rejection):
        return Arrived(topic, record, event, stamped_us)
    refused = check_against_model(event, model)
    if refused is None and stamped_us is not None:
        refused = check_time(event, stamped_us)
    return Arrived(topic, record, refused or event, stamped_us)
