"""Commands are packed by hiredis: what Redis is sent are the bytes that redis-py packs."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import DataError

from streams.settings import Settings
from streams.state.redis_client import connect

COMMANDS = [
    ("GET", "key"),
    ("CLIENT SETINFO", "LIB-NAME", "größe"),
    ("EVALSHA", "0" * 40, 1, "key", b"\x00\xff" * 10_000, -5, "", 2**60),
]


def connection_to(url: str) -> Any:
    pool: Any = connect(Settings(redis_url=url)).connection_pool
    return pool.make_connection()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:1/0", Connection),
        ("rediss://127.0.0.1:1/0", SSLConnection),
        ("unix:///none.sock", UnixDomainSocketConnection),
    ],
)
def test_a_command_is_packed_as_by_redis_py(url: str, expected: type) -> None:
    """By each kind of connection."""
    made = connection_to(url)
    assert issubclass(type(made), expected)
    for command in COMMANDS:
        assert b"".join(made.pack_command(*command)) == b"".join(Connection().pack_command(*command))


def test_what_is_no_argument_is_refused_as_by_redis_py() -> None:
    connections: list[Any] = [connection_to("redis://127.0.0.1:1/0"), Connection()]
    for connection in connections:
        with pytest.raises(DataError):
            connection.pack_command("SET", "key", None)
