"""The one place that connects to Redis, and what a worker asks of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, Protocol

import redis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.retry import Retry

from streams.settings import Settings


class RedisClient(Protocol):
    """What is used of `redis.asyncio.Redis`, without `decode_responses`."""

    def register_script(self, script: str) -> Any: ...
    def time(self) -> Awaitable[Any]: ...
    def execute_command(self, *command: Any) -> Awaitable[Any]: ...
    def hgetall(self, name: str) -> Awaitable[Any]: ...
    def zrange(self, name: str, start: int, end: int) -> Awaitable[Any]: ...
    def scan_iter(self, match: str, count: int) -> AsyncIterator[Any]: ...
    def aclose(self) -> Awaitable[Any]: ...

    # Asked at a scrape of the metrics only.
    def zcount(self, name: str, min: float | str, max: float | str) -> Awaitable[Any]: ...


ANSWER_TIMEOUT_S = 5.0
"""How long a worker waits for a connection, and for an answer. A Redis that sleeps must become an error: what waits for
it would hold up its partition, and a script does little enough to end long before."""


def connect(settings: Settings, timeout_s: float | None = None) -> Redis:
    """A client of the Redis that is set, which connects when it is first asked.

    Connecting, and each answer, take no longer than `timeout_s`; None stands for ANSWER_TIMEOUT_S.
    """
    timeout_s = ANSWER_TIMEOUT_S if timeout_s is None else timeout_s
    client = Redis.from_url(settings.redis_url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
    pool = client.connection_pool
    pool.connection_class = _packing(pool.connection_class)
    return client


def _packing(connection_class: type[Any]) -> type[Any]:
    """A class of connections that packs commands by hiredis.

    redis-py's own for asyncio does it in Python, which takes more than twice as long; the blocking one uses hiredis.
    """
    packer = HiredisRespSerializer()

    def pack_command(self: Any, *command: Any) -> list[bytes]:
        packed: list[bytes] = packer.pack(*command)
        return packed

    return type(connection_class.__name__, (connection_class,), {"pack_command": pack_command})


def connect_blocking(settings: Settings, timeout_s: float) -> redis.Redis:
    """The same for code without an event loop; nothing is tried twice, so that what is wrong is told at once."""
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
