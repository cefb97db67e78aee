"""Whether Redis lets this account do all that a worker does: every command of it is tried on keys of no partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from streams.errors import one_line
from streams.settings import Settings
from streams.state.keys import ROOT, PartitionKeys

NO_PARTITION: Final = -1
"""The number in the keys that are tried: a worker's begin at 0."""
TRIED_KEY_LIVES_MS: Final = 1_000
_DISK_ERROR: Final = "MISCONF"


def trials(settings: Settings) -> list[tuple[str | int, ...]]:
    """Every command that the worker and its scripts call; what one of them writes, a later one removes."""
    base = PartitionKeys.of(settings, NO_PARTITION).base
    text, table, index = f"{base}:text", f"{base}:table", f"{base}:index"
    return [
        ("PING",),
        ("TIME",),
        ("SCRIPT LOAD", "return 1"),
        ("EVALSHA", "0" * 40, 1, table),
        ("SCAN", 0, "MATCH", f"{base}:*", "COUNT", 1),
        ("SET", text, "", "PX", TRIED_KEY_LIVES_MS),
        ("GET", text),
        ("MGET", text),
        ("EXISTS", text),
        ("HSET", table, "tried", 1),
        ("HGET", table, "tried"),
        ("HMGET", table, "tried"),
        ("HGETALL", table),
        ("HDEL", table, "tried"),
        ("ZADD", index, 1, "tried"),
        ("ZCOUNT", index, "-inf", "+inf"),
        ("ZRANGE", index, 0, -1),
        ("ZRANGEBYSCORE", index, "-inf", "+inf"),
        ("ZMSCORE", index, "tried"),
        ("ZUNIONSTORE", index, 1, index, "WEIGHTS", 0),
        ("ZREM", index, "tried"),
        ("DEL", text, table),
        ("UNLINK", index),
    ]


def refusals(client: Any, settings: Settings) -> list[str]:
    """What Redis refuses of all that a worker does, a line for each cause; empty where it refuses nothing."""
    commands = trials(settings)
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    answers = pipeline.execute(raise_on_error=False)
    lacking: dict[str, None] = {}
    others: dict[str, None] = {}
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, NoPermissionError):
            lacking[_right(str(command[0]), str(answer))] = None
        elif isinstance(answer, ResponseError) and not isinstance(answer, NoScriptError):
            others[_cause(answer)] = None
    if lacking:
        others[f"this account lacks the rights {' '.join(lacking)}"] = None
    return list(others)


def rights(settings: Settings) -> list[str]:
    """What an account needs, as rules of Redis' access lists."""
    return [f"~{ROOT}:*", *(_right(str(command[0])) for command in trials(settings))]


def role_problems(info: Mapping[str, Any]) -> list[str]:
    """Reasons why no worker can use this Redis, by its answer to `INFO`."""
    if info.get("cluster_enabled") == 1:
        return ["it is a node of a Redis Cluster, which is not supported; give a single Redis"]
    if info.get("role") == "slave":
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        return [f"it is a replica of {primary}, and read-only; give the primary's address"]
    return []


def _right(command: str, refusal: str = "") -> str:
    """The rule of Redis' access lists that would grant what was refused."""
    if "key" in refusal:
        return f"~{ROOT}:*"
    return f"+{command.lower().replace(' ', '|')}"


def _cause(error: ResponseError) -> str:
    """Why a command was refused, in one line that says what to do."""
    said = one_line(error)
    if isinstance(error, ReadOnlyError):
        return "it is a replica, and read-only; give the primary's address"
    if isinstance(error, MovedError | ClusterDownError):
        return "it is a node of a Redis Cluster, which is not supported; give a single Redis"
    if isinstance(error, OutOfMemoryError):
        return "its memory is full, and it takes no writes; raise maxmemory"
    if said.startswith(_DISK_ERROR):
        return f"it takes no writes, since it cannot write to its disk: {said}"
    return said
