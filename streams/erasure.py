"""An erasure, as the record in `consents` that the worker deletes a customer by."""

from __future__ import annotations

import uuid
from typing import Any, Final

import orjson

from enrichment.days import format_time
from enrichment.model import Model
from schemas.dead_letters import Rejection
from schemas.decode import decode
from streams.errors import UsageError
from streams.held_state import NothingHeldError, held_partitions
from streams.log_writer import log_writer
from streams.settings import Settings
from streams.topics import CONSENTS

ERASURE: Final = "erasure"


async def erase(settings: Settings, customer_id: str, at_us: int) -> list[tuple[str, int, int]]:
    """Ask for a customer's erasure, dated `at_us`; gives topic, partition and offset of each record that was sent.

    It goes to the partition that holds the customer, by whichever partitioner they came there, and to each where there
    are several; an unknown customer's goes where Kafka's default partitioner puts their key.

    Raises:
        UsageError: no record could have this customer's id.
        EbbtideError: Redis or Kafka does not answer, or Redis is just being rebuilt.
    """
    try:
        key, value = customer_id.encode(), _record(customer_id, at_us)
    except UnicodeEncodeError as error:
        raise UsageError("CUSTOMER_ID: not UTF-8") from error
    refused = decode(CONSENTS, value, key)
    if isinstance(refused, Rejection):
        raise UsageError(f"CUSTOMER_ID: {refused.message}")
    partitions: list[int | None] = [*await _held_in(settings, customer_id, settings.load_model())] or [None]
    sent = []
    async with log_writer(settings) as producer:
        for partition in partitions:
            taken: Any = await producer.send_and_wait(
                settings.topic(CONSENTS), value, key=key, partition=partition
            )
            sent.append((settings.topic(CONSENTS), int(taken.partition), int(taken.offset)))
    return sent


def _record(customer_id: str, at_us: int) -> bytes:
    return orjson.dumps(
        {
            "event_id": f"{ERASURE}-{uuid.uuid4()}",
            "customer_id": customer_id,
            "occurred_at": format_time(at_us),
            "kind": ERASURE,
        }
    )


async def _held_in(settings: Settings, customer_id: str, model: Model) -> list[int]:
    try:
        async with held_partitions(settings, model) as partitions:
            found = {
                held.partition: (await held.store.load([customer_id]))[customer_id] for held in partitions
            }
    except NothingHeldError:
        return []
    return [partition for partition, customer in found.items() if customer.is_known]
