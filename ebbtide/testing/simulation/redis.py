"""Redis in memory: the commands that Ebbtide uses, its own scripts in a real Lua, and everything that may be lost."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type
from redis.exceptions import OutOfMemoryError

WRITES = frozenset({"HSET", "HDEL", "SET", "ZADD", "ZUNIONSTORE"})
"""Commands that are refused when memory is full; those that free some are not."""
HISTORY_S = 30.0


class RedisServer:
    """One Redis. `history` is what a replica that lags, or a disk that was written late, would have."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.data: dict[bytes, Any] = {}
        self.is_full = False
        self._now_s = now_s
        self._history: list[tuple[float, dict[bytes, Any]]] = [(now_s(), {})]
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        self._lua.execute("redis = {}")
        self._lua.globals()[b"redis"][b"call"] = self._call
        self._scripts: dict[str, Any] = {}

    # ------------------------------------------------------------ what may happen to it

    def lose(self, since_s: float) -> None:
        """Go back to where it was at a time."""
        kept = [data for at_s, data in self._history if at_s <= since_s]
        self.restore(kept[-1] if kept else self._history[0][1])

    def flush(self) -> None:
        """Lose everything."""
        self.restore({})

    def snapshot(self) -> dict[bytes, Any]:
        """Everything it holds."""
        return _copied(self.data)

    def restore(self, snapshot: dict[bytes, Any]) -> None:
        """Hold what it held then, and nothing else."""
        self.data = _copied(snapshot)
        self._remember()

    def _remember(self) -> None:
        now_s = self._now_s()
        self._history.append((now_s, _copied(self.data)))
        while len(self._history) > 1 and self._history[1][0] < now_s - HISTORY_S:
            self._history.pop(0)

    # ------------------------------------------------------------ commands

    def execute(self, name: str, *arguments: Any) -> Any:
        """One command, as redis-py would answer it."""
        found = self._command(name, [_bytes(argument) for argument in arguments])
        if name in WRITES:
            self._remember()
        return found

    def run(self, script: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """One script, whole or, where memory is full before it writes, not at all."""
        function = self._scripts.get(script)
        if function is None:
            body = b"function(KEYS, ARGV)\n" + script.encode() + b"\nend"
            function = self._scripts[script] = self._lua.eval(body)
        table = self._lua.table_from
        if self.is_full:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        answer = function(table([_bytes(key) for key in keys]), table([_bytes(a) for a in args]))
        if isinstance(answer, bytes):  # those that write give a verdict
            self._remember()
            return answer
        return _plain(answer)

    def _call(self, name: bytes, *arguments: Any) -> Any:
        """`redis.call` of a script: nil is false there, and a list is a table."""
        found = self._command(name.decode(), [_bytes(argument) for argument in arguments])
        if isinstance(found, list):
            return self._lua.table_from([False if entry is None else entry for entry in found])
        return False if found is None else found

    def _command(self, name: str, arguments: list[bytes]) -> Any:
        if self.is_full and name in WRITES:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
        command: Callable[..., Any] = getattr(self, f"_{name.lower()}")
        return command(*arguments)

    def _exists(self, *keys: bytes) -> int:
        return sum(key in self.data for key in keys)

    def _get(self, key: bytes) -> Any:
        return self.data.get(key)

    def _set(self, key: bytes, value: bytes) -> bytes:
        self.data[key] = value
        return b"OK"

    def _mget(self, *keys: bytes) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def _del(self, *keys: bytes) -> int:
        return sum(self.data.pop(key, None) is not None for key in keys)

    _unlink = _del

    def _hget(self, key: bytes, name: bytes) -> Any:
        return self.data.get(key, {}).get(name)

    def _hgetall(self, key: bytes) -> dict[bytes, bytes]:
        return dict(self.data.get(key, {}))

    def _hmget(self, key: bytes, *names: bytes) -> list[bytes | None]:
        return [self.data.get(key, {}).get(name) for name in names]

    def _hset(self, key: bytes, *pairs: bytes) -> int:
        self.data.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(pairs) // 2

    def _hdel(self, key: bytes, *names: bytes) -> int:
        return sum(self.data.get(key, {}).pop(name, None) is not None for name in names)

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        self.data.setdefault(key, {})[member] = float(score)
        return 1

    def _zrem(self, key: bytes, member: bytes) -> int:
        return int(self.data.get(key, {}).pop(member, None) is not None)

    def _zmscore(self, key: bytes, *members: bytes) -> list[bytes | None]:
        scores = self.data.get(key, {})
        return [b"%d" % int(scores[member]) if member in scores else None for member in members]

    def _zcount(self, key: bytes, low: bytes, high: bytes) -> int:
        return sum(float(low) <= score <= float(high) for score in self.data.get(key, {}).values())

    def _zrange(self, key: bytes, start: bytes, end: bytes) -> list[bytes]:
        members = [member for _, member in self._ordered(key)]
        return members[int(start) : None if int(end) == -1 else int(end) + 1]

    def _zrangebyscore(
        self, key: bytes, low: bytes, high: bytes, _: bytes, __: bytes, start: bytes, count: bytes
    ) -> list[bytes]:
        """With scores, as the only caller asks for them."""
        found = [place for place in self._ordered(key) if float(low) <= place[0] <= float(high)]
        chosen = found[int(start) : int(start) + int(count)]
        return [each for score, member in chosen for each in (member, b"%d" % int(score))]

    def _zunionstore(self, target: bytes, count: bytes, source: bytes, _: bytes, weight: bytes) -> int:
        assert count == b"1"
        self.data[target] = {m: score * float(weight) for m, score in self.data.get(source, {}).items()}
        return len(self.data[target])

    def _scan(self, pattern: bytes) -> list[bytes]:
        return sorted(key for key in self.data if fnmatch.fnmatchcase(key, _shell(pattern)))

    def _ordered(self, key: bytes) -> list[tuple[float, bytes]]:
        return sorted((score, member) for member, score in self.data.get(key, {}).items())


def _plain(answer: Any) -> Any:
    """A Lua table as the list that Redis would answer."""
    if answer is False:
        return None
    return [_plain(entry) for entry in answer.values()] if lua_type(answer) == "table" else answer


def _copied(data: dict[bytes, Any]) -> dict[bytes, Any]:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}


def _bytes(argument: Any) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


def _shell(pattern: bytes) -> bytes:
    """Redis escapes by a backslash, fnmatch by brackets."""
    made, escaped = b"", False
    for byte in pattern.decode():
        if escaped:
            made += f"[{byte}]".encode() if byte in "*?[" else byte.encode()
            escaped = False
        elif byte == "\\":
            escaped = True
        else:
            made += byte.encode()
    return made
