"""What an asynchronous iterator gives, for code that is not: some at a time, so that nobody holds all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final, TypeVar

AT_ONCE: Final = 1_000
T = TypeVar("T")


def in_turn(items: AsyncGenerator[T]) -> Iterator[T]:
    """The items, from an event loop of their own, which must not be within another one."""

    async def some() -> list[T]:
        taken: list[T] = []
        async for item in items:
            taken.append(item)
            if len(taken) == AT_ONCE:
                break
        return taken

    with asyncio.Runner() as runner:
        try:
            while taken := runner.run(some()):
                yield from taken
        finally:
            runner.run(items.aclose())
