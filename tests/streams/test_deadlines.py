"""Waiting has an end, and the end has a reason."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from streams.errors import EbbtideError
from streams.timeouts import stop_within, within


class Client:
    """Stands in for a client of Kafka whose `stop` waits for what never comes."""

    def __init__(self, *, is_deaf: bool) -> None:
        self.has_ended = False
        self._is_deaf = is_deaf

    async def stop(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._is_deaf:
                await asyncio.Event().wait()
            raise
        finally:
            self.has_ended = True


async def test_what_hangs_is_named() -> None:
    """The message says what, and after how long."""
    with pytest.raises(EbbtideError, match=r"^a micro-batch: no end within 0\.01 s$"):
        async with within(0.01, "a micro-batch"):
            await asyncio.Event().wait()


async def test_another_time_out_within_the_limit_keeps_its_own_error() -> None:
    """Only the block's own limit is reported as such."""
    with pytest.raises(TimeoutError, match="of the inside"):
        async with within(60.0, "a micro-batch"):
            raise TimeoutError("of the inside")


@pytest.mark.parametrize("is_deaf", [False, True])
async def test_nothing_waits_for_a_client_that_does_not_stop(
    is_deaf: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cancelled and left alone, also where it does not hear that."""
    client = Client(is_deaf=is_deaf)
    async with asyncio.timeout(5.0):
        await stop_within(0.01, client)
    await asyncio.sleep(0.01)
    assert client.has_ended is not is_deaf
    assert "did not stop within 0.01 s" in caplog.text
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_how_a_client_stops_is_nobodys_error() -> None:
    """The `stop` of aiokafka may raise, or end as if cancelled: there is nothing left to do about it."""

    class Failing:
        def __init__(self, error: BaseException) -> None:
            self._error = error

        async def stop(self) -> None:
            raise self._error

    await stop_within(5.0, Failing(RuntimeError("no")))
    await stop_within(5.0, Failing(asyncio.CancelledError()))
