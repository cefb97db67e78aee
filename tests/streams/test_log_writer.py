"""What a command sends is acknowledged, or an error says that it may not have been."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from streams.errors import EbbtideError
from streams.kafka import log_writer
from streams.kafka.log_writer import InputRecord, LogWriter
from streams.settings import Settings

RECORD = InputRecord("consents", 0, b"k", b"v")


class Answers:
    """A producer that gives these answers in turn, and then none, as aiokafka's does while replicas are missing."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    async def send(self, topic: str, value: bytes | None, **record: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, MessageSizeTooLargeError):
                raise answer
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        return future


async def test_refusals_stand_in_the_place_of_acknowledgements() -> None:
    """Whether aiokafka refuses a record at once or the broker does later; the others are sent all the same."""
    at_once, later = MessageSizeTooLargeError(), KafkaError("refused")
    found = await LogWriter(Settings(), Answers("first", at_once, later, "last")).send([RECORD] * 4)
    assert found == ["first", at_once, later, "last"]


async def test_what_is_never_acknowledged_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that tries for ever does not keep a command for ever."""
    monkeypatch.setattr(log_writer, "TIMEOUT_S", 0.05)
    with pytest.raises(EbbtideError, match=r"Kafka at .* has not acknowledged .* it may have been taken"):
        await LogWriter(Settings(), Answers("first")).send([RECORD] * 2)


async def test_an_error_that_is_not_kafkas_is_not_taken_for_a_refusal() -> None:
    """It is a defect of ours, and is raised."""
    with pytest.raises(AssertionError, match="ours"):
        await LogWriter(Settings(), Answers(AssertionError("ours"))).send([RECORD])
