"""A machine with one worker on it, and the network between it and the servers.

Every request of the worker's clients goes through `Process.call`. There a process may be found paused (`SIGSTOP`) or
dead (a pause without end), and there requests are late, lost, executed although nobody hears of it, or executed much
later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Kind(Enum):
    """What a request does, as far as faults are concerned."""

    POLL = "poll"
    READ = "read"
    WRITE = "write"


@dataclass(slots=True)
class Network:
    """Chances per request, and seconds; the same for all processes and both servers."""

    delay_s: float = 0.004
    lost_request: float = 0.0
    lost_answer: float = 0.0
    late_request: float = 0.0
    latest_s: float = 15.0


class Injector(Protocol):
    """Something that may go wrong at a request."""

    def before(self, process: Process, kind: Kind, what: str) -> None:
        """Called as a request is about to be sent."""

    def executed(self, process: Process, kind: Kind, what: str) -> None:
        """Called as a server has executed one and not yet answered."""


class NoFaults:
    """Nothing goes wrong."""

    def before(self, process: Process, kind: Kind, what: str) -> None:
        """Nothing."""

    def executed(self, process: Process, kind: Kind, what: str) -> None:
        """Nothing."""


class Process:
    """One worker's machine."""

    def __init__(self, name: str, rng: random.Random, network: Network, injector: Injector) -> None:
        self.name = name
        self.clock_offset_us = 0
        self.is_dead = False
        self._is_over = False
        self._rng = rng
        self._network = network
        self._injector = injector
        self._resumed = asyncio.Event()
        self._resumed.set()

    @property
    def is_paused(self) -> bool:
        """Whether it stands still, be it for ever."""
        return not self._resumed.is_set()

    def pause(self) -> None:
        """Stop it where it is; requests under way are on their way."""
        self._resumed.clear()

    def resume(self) -> None:
        """Let it go on, unless it is dead."""
        if not self.is_dead:
            self._resumed.set()

    def kill(self) -> None:
        """Nothing more is sent from it or heard there; no `finally` runs."""
        self.is_dead = True
        self.pause()

    def end(self) -> None:
        """The run is over: whoever still asks for anything is cancelled."""
        self.is_dead = self._is_over = True
        self._resumed.set()

    async def call(self, kind: Kind, what: str, request: Callable[[], T], lost: Callable[[], Exception]) -> T:
        """Send a request to a server and give its answer; raises what it raises, or `lost()` where none comes."""
        await self._resumed.wait()
        self._injector.before(self, kind, what)
        await self._resumed.wait()
        if self._is_over:
            raise asyncio.CancelledError
        loop, network, rng = asyncio.get_running_loop(), self._network, self._rng
        answer: asyncio.Future[T] = loop.create_future()
        there_s, back_s = rng.uniform(0, network.delay_s), rng.uniform(0, network.delay_s)
        chance = rng.random()

        def settle(how: Callable[[], None]) -> None:
            if not answer.done():
                how()

        def fail() -> None:
            settle(lambda: answer.set_exception(lost()))

        def execute(hear: bool) -> None:
            try:
                found: Any = request()
                error = None
            except Exception as raised:
                error = raised
            self._injector.executed(self, kind, what)
            if not hear or answer.done():
                return
            if error is None:
                loop.call_later(back_s, settle, lambda: answer.set_result(found))
            else:
                loop.call_later(back_s, settle, lambda: answer.set_exception(error))

        if chance < network.lost_request:
            loop.call_later(there_s, fail)
        elif (chance := chance - network.lost_request) < network.lost_answer:
            loop.call_later(there_s, execute, False)
            loop.call_later(there_s + back_s, fail)
        elif chance - network.lost_answer < network.late_request:
            loop.call_later(rng.uniform(0, network.latest_s), execute, False)
            loop.call_later(there_s, fail)
        else:
            loop.call_later(there_s, execute, True)
        try:
            return await answer
        finally:
            await self._resumed.wait()
