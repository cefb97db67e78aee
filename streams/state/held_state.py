"""What a group's worker holds in Redis, read beside the running worker without touching anything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from msgspec import DecodeError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from zstandard import ZstdError

from enrichment.customer.customer import Customer
from enrichment.model import Model
from streams.checkpoint import Checkpoint
from streams.console.refusals import Example, Refusals
from streams.errors import EbbtideError, one_line
from streams.settings import Settings
from streams.state.keys import PartitionKeys
from streams.state.partition_facts import Facts
from streams.state.redis_client import connect
from streams.state.store import StateStore

TIMEOUT_S: Final = 10.0
_PROBED_AT_ONCE: Final = 1_024
_UNREADABLE: Final = (ValueError, DecodeError, ZstdError, IndexError)
"""What the bytes of a state raise that was damaged, or written by a later version."""


class NothingHeldError(EbbtideError):
    """Redis holds nothing of the group: its worker has not run yet, or another Redis was meant."""


@dataclass(frozen=True, slots=True)
class HeldPartition:
    """One partition as Redis has it: its states, how far they have come, and which model decided last."""

    partition: int
    store: StateStore
    checkpoint: Checkpoint
    model_fingerprint: str
    facts: Facts | None

    async def known(self, customer_ids: Sequence[str], refusals: Refusals) -> dict[str, Customer]:
        """The customers of whom more than an erasure is known; unreadable states are left out and counted."""
        loaded = await self._readable(customer_ids, refusals)
        known = {customer_id: customer for customer_id, customer in loaded.items() if customer.is_known}
        refusals.read += len(known)
        refusals.accepted += len(known)
        return known

    async def _readable(self, customer_ids: Sequence[str], refusals: Refusals) -> dict[str, Customer]:
        try:
            return await self.store.load(customer_ids)
        except _UNREADABLE as error:
            if len(customer_ids) > 1:  # one by one, to find those that can be read
                loaded = dict[str, Customer]()
                for customer_id in customer_ids:
                    loaded |= await self._readable([customer_id], refusals)
                return loaded
            where = f"partition {self.partition}, customer {customer_ids[0]!r}"
            refusals.read += 1
            refusals.add("unreadable in Redis", Example(where, 0, one_line(error)))
            return {}


@asynccontextmanager
async def held_partitions(settings: Settings, model: Model) -> AsyncIterator[list[HeldPartition]]:
    """The partitions of the settings' group that Redis holds, by number; usable inside the block.

    Raises:
        NothingHeldError: Redis holds nothing of the group.
        EbbtideError: Redis does not answer, or is just being restored.
    """
    where = f"{settings.redis_address} (setting EBBTIDE_REDIS_URL)"
    redis = connect(settings, TIMEOUT_S)
    try:
        # Errors of files, and of whatever else the block does, are its own: redis-py makes `RedisError` of sockets'.
        yield await _held(redis, settings, model, where)
    except RedisError as error:
        raise EbbtideError(f"Redis does not answer at {where}: {one_line(error)}") from error
    finally:
        await redis.aclose()


async def _held(redis: Redis, settings: Settings, model: Model, where: str) -> list[HeldPartition]:
    held = []
    for partition in await _numbers(redis, settings):
        keys = PartitionKeys.of(settings, partition)
        store = StateStore(redis, keys, model, settings.erasure_keys)
        stored = await store.stored_checkpoint()
        if stored is None:
            continue
        if stored.is_restoring:
            raise EbbtideError(f"partition {partition} is being restored; try again when the worker is ready")
        if stored.checkpoint.is_loading:
            raise EbbtideError(f"partition {partition} is in its first load; try again when that is through")
        held.append(HeldPartition(partition, store, stored.checkpoint, stored.model, stored.facts))
    if not held:
        name = f"group {settings.group_id!r} with topic prefix {settings.topic_prefix!r}"
        raise NothingHeldError(f"Redis at {where} holds nothing of {name}: has its worker run?")
    return held


async def _numbers(redis: Redis, settings: Settings) -> list[int]:
    """Which partitions have a key of their own; asked for by number, since a scan would pass every customer."""
    numbers: list[int] = []
    first = 0
    while True:
        probe: Any = redis.pipeline(transaction=False)
        for partition in range(first, first + _PROBED_AT_ONCE):
            probe.exists(PartitionKeys.of(settings, partition).meta)
        found = [first + at for at, exists in enumerate(await probe.execute()) if exists]
        if not found:
            return numbers
        numbers += found
        first += _PROBED_AT_ONCE
