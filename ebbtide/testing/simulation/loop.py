"""An event loop in virtual time: nothing waits, and the same program takes the same micro-batches each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1_000.0
"""Not 0, so that no "never" of a program's own is mistaken for a moment ago."""


class Deadlock(RuntimeError):
    """Everyone waits, and nothing is scheduled that could end it."""


class _NoWaiting(selectors.DefaultSelector):
    """Passes the time that the loop would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Its clock moves only when all tasks wait, to the next thing scheduled; threads and sockets have no place here."""

    def __init__(self) -> None:
        self._virtual = _NoWaiting()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual.now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Refused: a thread's timing is nobody's to choose."""
        raise RuntimeError(f"a simulated program may use no thread: {func}")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    loop = SimulatedLoop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
