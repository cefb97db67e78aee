"""What comes of an input: a record with what it says, or with why it was refused."""

from __future__ import annotations

from typing import NamedTuple

from aiokafka import ConsumerRecord

from enrichment.customer.validation import check_against_model, check_time
from enrichment.model import Model
from schemas.decode import decode
from schemas.events import Event
from schemas.rejection import Rejection
from schemas.topics import InputTopic
from streams.checkpoint import Skipped

LOG_APPEND_TIME = 1


class Arrived(NamedTuple):
    """A record with what it says, or why it says nothing; None where nobody has read it yet.

    `broker_timestamp_us` is when the broker took it; None where the broker does not say. Where offsets are skipped,
    `skipped` says which, the record holds the bytes that were there, and its offset is the last of them.
    """

    topic: InputTopic
    record: ConsumerRecord
    event: Event | Rejection | None
    broker_timestamp_us: int | None
    skipped: Skipped | None = None


def arrived_of(record: ConsumerRecord, topic: InputTopic, model: Model) -> Arrived:
    """A record with what it says, as far as it takes no customer to tell."""
    return read(unread(record, topic), model)


def unread(record: ConsumerRecord, topic: InputTopic) -> Arrived:
    """A record that is yet to be read."""
    stamped_us = int(record.timestamp) * 1_000 if record.timestamp_type == LOG_APPEND_TIME else None
    return Arrived(topic, record, None, stamped_us)


def read(arrived: Arrived, model: Model) -> Arrived:
    """The same with what it says; one that has been read is as it was."""
    topic, record, event, stamped_us, _ = arrived
    if event is not None:
        return arrived
    event = decode(topic, record.value, record.key)
    if isinstance(event, Rejection):
        return arrived._replace(event=event)
    refused = check_against_model(event, model)
    if refused is None and stamped_us is not None:
        refused = check_time(event, stamped_us)
    return arrived._replace(event=refused or event)
