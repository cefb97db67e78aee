"""How transactions follow each other: on a client that answers what it is told to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import ConcurrentTransactions, InvalidProducerEpoch
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddOffsetsToTxnResponse_v0,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse_v0,
    EndTxnRequest,
    EndTxnResponse_v0,
)

from streams.errors import EbbtideError
from streams.kafka import transactions
from streams.kafka.transactions import PAUSES_S, hasten_beginnings

TOO_EARLY = ConcurrentTransactions.errno
FENCED = InvalidProducerEpoch.errno
PARTITIONS = AddPartitionsToTxnRequest("id", 1, 1, [("topic", [0])])
OFFSETS = AddOffsetsToTxnRequest("id", 1, 1, "group")
COMMIT = EndTxnRequest("id", 1, 1, True)


class _Client:
    def __init__(self, answers: list[Any]) -> None:
        self.answers = answers

    async def send(self, node_id: int, request: Any, *, group: ConnectionGroup) -> Any:
        return self.answers.pop(0)


class _Producer:
    def __init__(self, *answers: Any) -> None:
        self.client = _Client(list(answers))


def asked(request: Any, *answers: Any) -> tuple[Any, int]:
    """What the producer gets to know, and how many answers are left."""
    producer = _Producer(*answers)
    hasten_beginnings(cast(AIOKafkaProducer, producer))
    answer = asyncio.run(producer.client.send(1, request, group=ConnectionGroup.COORDINATION))
    return answer, len(producer.client.answers)


def of_partitions(*codes: int) -> Any:
    return AddPartitionsToTxnResponse_v0(0, [("topic", list(enumerate(codes)))])


def of_offsets(code: int) -> Any:
    return AddOffsetsToTxnResponse_v0(0, code)


@pytest.mark.parametrize(("request_", "answer"), [(PARTITIONS, of_partitions), (OFFSETS, of_offsets)])
def test_a_transaction_begins_once_the_one_before_is_wholly_committed(request_: Any, answer: Any) -> None:
    """Aiokafka does not get to know that it was too early."""
    taken, left = asked(request_, answer(TOO_EARLY), answer(TOO_EARLY), answer(0), answer(0))
    assert (transactions._error_codes(taken), left) == ([0], 1)


def test_after_the_last_pause_aiokafka_gets_to_know() -> None:
    """It goes on with pauses of its own."""
    refused = [of_offsets(TOO_EARLY)] * (len(PAUSES_S) + 1)
    taken, left = asked(OFFSETS, *refused)
    assert (taken.error_code, left) == (TOO_EARLY, 0)


@pytest.mark.parametrize("code", [0, FENCED])
def test_any_other_answer_is_passed_on_at_once(code: int) -> None:
    """A fenced producer above all."""
    assert asked(PARTITIONS, of_partitions(code), of_partitions(0))[1] == 1
    assert asked(OFFSETS, of_offsets(code), of_offsets(0))[1] == 1
    assert asked(PARTITIONS, of_partitions(TOO_EARLY, code), of_partitions(0, 0))[1] == 1


def test_a_commit_is_not_asked_for_again() -> None:
    """What may come only once is none of the first requests."""
    answer, left = asked(COMMIT, EndTxnResponse_v0(0, TOO_EARLY), EndTxnResponse_v0(0, 0))
    assert (answer.error_code, left) == (TOO_EARLY, 1)


def test_another_aiokafka_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first transaction that comes too early."""
    monkeypatch.setattr(transactions, "_error_codes", lambda answer: [])
    with pytest.raises(EbbtideError, match="this version of aiokafka"):
        asked(OFFSETS)
