"""Requests that belong to one transaction only are never repeated by the same producer epoch.

When a connection breaks, the request on it may still be waiting in the broker. aiokafka sends it again, goes on to the
next transaction, and the late copy then commits half of that one: up to KIP-890's second part, which aiokafka does
not speak, a broker cannot tell. So an unknown outcome is an error here. The take-over that follows asks for a new
epoch, which fences the late copy and settles the transaction.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.transaction import EndTxnRequest, TxnOffsetCommitRequest

from streams.errors import EbbtideError

ONLY_ONCE = (EndTxnRequest, TxnOffsetCommitRequest)


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
