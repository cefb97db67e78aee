"""An erasure, as the record in `consents` that the worker deletes a customer by."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final, NamedTuple

import orjson

from enrichment.days import format_time
from enrichment.model import Model
from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import CONSENTS
from streams.errors import EbbtideError, UsageError, one_line
from streams.kafka.log_writer import InputRecord, log_writer
from streams.kafka.topics import existing_topics
from streams.settings import Settings
from streams.state.held_state import NothingHeldError, held_partitions
from streams.state.partition_facts import wrong_erasure_key

ERASURE: Final = "erasure"


class Erasure(NamedTuple):
    """What was sent: (topic, partition, offset) of each record, and whether Redis told the partitions."""

    sent: list[tuple[str, int, int]]
    is_held: bool


async def erase(settings: Settings, customer_id: str, at_us: int, partition: int | None = None) -> Erasure:
    """Ask for a customer's erasure, dated `at_us`.

    It goes to `partition`, or to the one that holds the customer or remembers that they were erased, by whichever
    partitioner they came there, and to each where there are several. One whom Redis does not know may yet be in a
    backlog: theirs goes where Kafka's default partitioner puts their key.

    Raises:
        UsageError: no record could have this id or this date, or there is no such partition.
        EbbtideError: Redis or Kafka does not answer, Redis is just being restored, there is no topic, the erasure key
            is another than the worker's, or the customer has been erased up to that date or a later one.
    """
    try:
        key, value = customer_id.encode(), _record(customer_id, at_us)
    except UnicodeEncodeError as error:
        raise UsageError("CUSTOMER_ID: not UTF-8") from error
    refused = decode(CONSENTS, value, key)
    if isinstance(refused, Rejection):
        raise UsageError(f"CUSTOMER_ID: {refused.message.partition(': ')[2]}")
    topic = settings.topic(CONSENTS)
    partitions = (await asyncio.to_thread(existing_topics, settings, [CONSENTS]))[topic].partitions
    if partition is not None and partition >= partitions:
        raise UsageError(f"--partition: {topic} has {partitions} partitions, numbered from 0")
    held = await _held_in(settings, customer_id, settings.load_model())
    erased_up_to_us = max((up_to_us for up_to_us in held.values() if up_to_us is not None), default=None)
    if erased_up_to_us is not None and at_us <= erased_up_to_us:
        raise EbbtideError(
            f"customer {customer_id!r} was erased up to {format_time(erased_up_to_us)}; an erasure must be dated later"
        )
    chosen: list[int | None] = [partition] if partition is not None else list(held) or [None]
    async with log_writer(settings) as writer:
        answers = await writer.send([InputRecord(topic, number, key, value) for number in chosen])
    sent = []
    for answer in answers:
        if isinstance(answer, Exception):
            raise EbbtideError(f"{topic}: {one_line(answer)}") from answer
        sent.append((topic, answer.partition, answer.offset))
    return Erasure(sent, bool(held))


def _record(customer_id: str, at_us: int) -> bytes:
    return orjson.dumps(
        {
            "event_id": f"{ERASURE}-{uuid.uuid4()}",
            "customer_id": customer_id,
            "occurred_at": format_time(at_us),
            "kind": ERASURE,
        }
    )


async def _held_in(settings: Settings, customer_id: str, model: Model) -> dict[int, int | None]:
    """The partitions that know a customer, each with the date up to which they were erased there."""
    try:
        async with held_partitions(settings, model) as partitions:
            for held in partitions:
                if held.facts is not None and (problem := wrong_erasure_key(held.facts, settings)):
                    raise EbbtideError(problem)
            found = {
                held.partition: (await held.store.load([customer_id]))[customer_id] for held in partitions
            }
    except NothingHeldError:
        return {}
    erased = {number: customer.decision.erased_up_to_us for number, customer in found.items()}
    return {
        number: erased[number] for number in found if found[number].is_known or erased[number] is not None
    }
