"""Where aiokafka's transactions must go otherwise than they would.

Requests that belong to one transaction only are never repeated by the same producer epoch. When a connection breaks,
the request on it may still be waiting in the broker. aiokafka sends it again, goes on to the next transaction, and the
late copy then commits half of that one: up to KIP-890's second part, which aiokafka does not speak, a broker cannot
tell. So an unknown outcome is an error here. The recovery that follows asks for a new epoch, which fences the late
copy and settles the transaction.

A transaction that comes right after another waits no longer than the broker needs. It answers a commit before the
commit's markers are in the logs, and until they are, some milliseconds later, refuses to add anything to the next
transaction. aiokafka would ask again after 20 ms, or after 100 ms if there are only offsets to add.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import ConcurrentTransactions, KafkaError, NodeNotReadyError
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddOffsetsToTxnResponse_v0,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse_v0,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)

from streams.errors import EbbtideError

ONLY_ONCE = (EndTxnRequest, TxnOffsetCommitRequest)
FIRST_OF_ALL = (AddPartitionsToTxnRequest, AddOffsetsToTxnRequest)
PAUSES_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Between the questions whether the last transaction's markers are written; then aiokafka's own pauses follow."""


class CommitUnknownError(EbbtideError):
    """Kafka did not answer a request that would do harm if it came twice; only a new producer epoch makes it known."""


def refuse_repeats(producer: AIOKafkaProducer) -> None:
    """Let the producer's transaction fail with `CommitUnknownError` rather than repeat what may only come once."""
    client: Any = producer.client
    send = client.send

    async def send_once(
        node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        try:
            return await send(node_id, request, group=group)
        except NodeNotReadyError:
            raise  # it was never sent
        except KafkaError as error:
            if isinstance(request, ONLY_ONCE):
                # Not a KafkaError: those are what aiokafka tries again.
                name = type(request).__name__
                raise CommitUnknownError(f"no answer to {name} ({type(error).__name__})") from error
            raise

    client.send = send_once


def hasten_beginnings(producer: AIOKafkaProducer) -> None:
    """Let the producer begin a transaction as soon as the one before is wholly committed.

    Such a refusal is an answer: no copy of the request is under way that could come late.
    """
    _check_answers()
    client: Any = producer.client
    send = client.send

    async def send_until_taken(
        node_id: int, request: Any, *, group: ConnectionGroup = ConnectionGroup.DEFAULT
    ) -> Any:
        answer = await send(node_id, request, group=group)
        if isinstance(request, FIRST_OF_ALL):
            for pause_s in PAUSES_S:
                if set(_error_codes(answer)) != {ConcurrentTransactions.errno}:
                    break
                await asyncio.sleep(pause_s)
                answer = await send(node_id, request, group=group)
        return answer

    client.send = send_until_taken


def _error_codes(answer: Any) -> Sequence[int]:
    if isinstance(answer, AddOffsetsToTxnResponse_v0):
        return [answer.error_code]
    return [code for _, partitions in answer.errors for _, code in partitions]


def _check_answers() -> None:
    """Raise at the start, not at the first transaction, if aiokafka's answers are no longer as they were."""
    refused = ConcurrentTransactions.errno
    answers = AddOffsetsToTxnResponse_v0(0, refused), AddPartitionsToTxnResponse_v0(0, [("", [(0, refused)])])
    if any(list(_error_codes(answer)) != [refused] for answer in answers):
        raise EbbtideError(
            "this version of aiokafka cannot be used: its answers about transactions are others"
        )
