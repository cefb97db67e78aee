"""Limits to waiting: what hangs becomes an error that says what hung, and what cannot be stopped is left alone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from streams.errors import EbbtideError

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
"""How long a consumer may take to let go of its connections."""


class Stoppable(Protocol):
    """A consumer or a producer."""

    async def stop(self) -> None:
        """Let go of all connections."""


@asynccontextmanager
async def within(limit_s: float, what: str) -> AsyncIterator[None]:
    """Cancel the block and raise `EbbtideError` where it does not end in time."""
    try:
        async with asyncio.timeout(limit_s) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise EbbtideError(f"{what}: no end within {limit_s:g} s") from error


async def stop_within(limit_s: float, client: Stoppable) -> None:
    """Stop a client of Kafka, or give up; raises nothing.

    A consumer's `stop` ends as if it were cancelled where a fetch waits to be tried again, as all do while a broker is
    away: raised in the caller, that would end a task that nobody cancelled, without a word.

    Nothing may wait for a client that cannot end: one that does not end when it is cancelled either, as a cancellation
    that aiokafka swallows would have it, goes on in the background.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=limit_s)
    if not stopping.done():
        log.warning("a client of Kafka did not stop within %g s", limit_s)
        stopping.cancel()
    elif not stopping.cancelled() and (error := stopping.exception()) is not None:
        log.debug("a client of Kafka stopped with an error: %r", error)
