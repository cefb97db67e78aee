"""What an output has told, kept in Redis: a hash for each partition and output, by the HMAC of the customer's id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from streams.delivery.steps import Told
from streams.state.redis_client import RedisClient
from streams.state.store import StateStore

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Told)


class Memory:
    """Of one output and partition. A customer of whom nothing is kept has been told nothing."""

    def __init__(self, redis: RedisClient, store: StateStore, output: str) -> None:
        self._redis = redis
        self._store = store
        self._key = store.keys.delivered(output)

    async def begun(self, field: str, offset: int) -> int:
        """The offset from which on a topic is new to the output: the one given, if none was noted before.

        It is kept in a field of this name, which must be shorter than an HMAC.
        """
        await self._ask("HSETNX", self._key, field, offset)
        return int(await self._ask("HGET", self._key, field))

    async def told(self, customer_ids: Sequence[str]) -> dict[str, Told]:
        """What each of these customers' output was told."""
        if not customer_ids:
            return {}
        hashes = [self._store.erasure_keys.hashes_of(customer_id) for customer_id in customer_ids]
        kept = iter(await self._ask("HMGET", self._key, *chain.from_iterable(hashes)))
        told = {}
        for customer_id, own in zip(customer_ids, hashes, strict=True):
            values = [value for value in (next(kept) for _ in own) if value is not None]
            told[customer_id] = _decoder.decode(values[0]) if values else Told()
        return told

    async def keep(self, told: Mapping[str, Told]) -> None:
        """Keep what has been told by now."""
        kept: list[Any] = []
        forgotten: list[str] = []
        for customer_id, own in told.items():
            newest, *earlier = self._store.erasure_keys.hashes_of(customer_id)
            forgotten += earlier
            if own.is_nothing:
                forgotten.append(newest)
            else:
                kept += (newest, _encoder.encode(own))
        if kept:
            await self._ask("HSET", self._key, *kept)
        if forgotten:
            await self._ask("HDEL", self._key, *forgotten)

    async def _ask(self, *command: Any) -> Any:
        return await self._redis.execute_command(*command)
