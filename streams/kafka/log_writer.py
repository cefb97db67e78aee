"""Records that a command puts into an input topic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka.errors import ClusterAuthorizationFailedError, KafkaError, TopicAuthorizationFailedError
from aiokafka.structs import RecordMetadata

from streams.errors import EbbtideError, one_line
from streams.kafka.clients import new_writer
from streams.kafka.topics import INPUT_MAX_MESSAGE_BYTES
from streams.settings import Settings
from streams.settings.kafka_security import lacks_rights
from streams.timeouts import STOP_TIMEOUT_S, stop_within

TIMEOUT_S: Final = 20.0
"""For connecting, and for records to be acknowledged: an idempotent producer of aiokafka's tries for ever."""


class InputRecord(NamedTuple):
    """A record to be sent; `topic` is the full name, and no partition leaves it to Kafka's default partitioner."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class LogWriter:
    """Sends records, each input's in their order, and waits until all in-sync replicas have them."""

    def __init__(self, settings: Settings, producer: Any) -> None:
        self._settings = settings
        self._producer = producer

    async def send(self, records: Sequence[InputRecord]) -> list[RecordMetadata | KafkaError]:
        """Where each record is now, or the error by which it was refused for good.

        Raises:
            EbbtideError: Kafka does not answer in time, or our account may not write to the topic of a record; some of
                the records may have been taken.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                waiting = [await self._sent(record) for record in records]
                answers = await asyncio.gather(*waiting, return_exceptions=True)
            return [self._judged(record, answer) for record, answer in zip(records, answers, strict=True)]
        except TimeoutError as error:
            late = f"has not acknowledged within {TIMEOUT_S:g} s what was sent; it may have been taken"
            raise EbbtideError(f"Kafka at {_where(self._settings)} {late}") from error

    def _judged(
        self, record: InputRecord, answer: RecordMetadata | BaseException
    ) -> RecordMetadata | KafkaError:
        """The answer; raised where it concerns more than this record."""
        if isinstance(answer, TopicAuthorizationFailedError):
            right = f"Write on topic {record.topic}"
            raise EbbtideError(lacks_rights(self._settings, right)) from answer
        if isinstance(answer, BaseException) and not isinstance(answer, KafkaError):
            raise answer
        return answer

    async def _sent(self, record: InputRecord) -> Any:
        try:
            return await self._producer.send(
                record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
        except KafkaError as error:
            refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            refused.set_exception(error)
            return refused


@asynccontextmanager
async def log_writer(settings: Settings, **more: Any) -> AsyncIterator[LogWriter]:
    """A connected `LogWriter`; `more` are settings of aiokafka's producer.

    Raises:
        EbbtideError: Kafka does not answer, or our account may not write at all.
    """
    producer = new_writer(
        settings,
        client_id=f"ebbtide-{settings.group_id}-writer",
        acks="all",
        # A broker without transactions has no idempotent producers either.
        enable_idempotence=settings.processing_guarantee == "exactly_once",
        max_request_size=2 * INPUT_MAX_MESSAGE_BYTES,
        **more,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await producer.start()
    except ClusterAuthorizationFailedError as error:
        await stop_within(STOP_TIMEOUT_S, producer)
        raise EbbtideError(
            lacks_rights(settings, "Write on any topic, or IdempotentWrite on the cluster")
        ) from error
    except (KafkaError, TimeoutError, OSError) as error:
        await stop_within(STOP_TIMEOUT_S, producer)
        raise EbbtideError(f"Kafka at {_where(settings)}: {one_line(error)}") from error
    try:
        yield LogWriter(settings, producer)
    finally:
        await stop_within(STOP_TIMEOUT_S, producer)


def _where(settings: Settings) -> str:
    return f"{settings.kafka_bootstrap_servers} (setting EBBTIDE_KAFKA_BOOTSTRAP_SERVERS)"
