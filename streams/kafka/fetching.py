"""A consumer of aiokafka that looks at what it fetched before it decodes it, and says what cannot be read."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult
from aiokafka.protocol.fetch import FetchRequest

from streams.errors import EbbtideError
from streams.kafka.batches import Examined, Unreadable, batches_of, examine, is_compressed
from streams.kafka.fetched_batch import BatchedRecords, ReadBatch

_Positions = dict[TopicPartition, int]
_EXAMINER: Final = ThreadPoolExecutor(1, "ebbtide-examiner")
"""One for the whole process, so that only one batch at a time is being decompressed."""


class UnreadableError(EbbtideError):
    """A batch of a topic that cannot be read; others of it, that came in the same answer, are in `batches` too."""

    def __init__(self, tp: TopicPartition, batches: list[Unreadable]) -> None:
        self.tp = tp
        self.batches = batches
        first = batches[0]
        super().__init__(f"{tp.topic}, partition {tp.partition}: {first.offsets} cannot be read: {first.why}")


class ExaminingConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka carries no types
    """Decompresses within a limit. `getmany` raises `UnreadableError` where the next batch cannot be read.

    It lets go of its connections also where aiokafka's `stop` is cut short. It is by each fetch that waits to be tried
    again, as all do while a broker is away; the client would live on, with its connections and its questions for
    metadata, as long as the process.
    """

    def __init__(self, *topics: str, limit_bytes: int, **settings: Any) -> None:
        # The CRC of a batch that was decompressed is no longer that of its bytes.
        super().__init__(*topics, check_crcs=False, **settings)
        self._limit_bytes = limit_bytes
        self._read: ReadBatch | None = None

    def give_batches(self, read: ReadBatch | None) -> None:
        """Have `getmany` give a `FetchedBatch` in place of the records of each batch that `read` takes; None: records.

        What has been fetched before is given as it was to be given then.
        """
        self._read = read

    async def high_watermarks(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The ends of the logs, whatever transactions are open; `end_offsets` of read_committed stops at the oldest.

        Raises what `end_offsets` raises.
        """
        asking = copy.copy(self._fetcher)  # it shares the client, and differs in the level alone
        asking._isolation_level = READ_UNCOMMITTED
        found: dict[TopicPartition, int] = await asking.end_offsets(partitions, self._request_timeout_ms)
        return found

    async def stop(self) -> None:
        """Stop as aiokafka does, and close all connections."""
        try:
            await super().stop()
        finally:
            await self._client.close()

    @property
    def _fetcher(self) -> Any:
        return self._examining

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        """Aiokafka makes its fetcher in `start`, which then begins to fetch at once."""
        self._examining = fetcher
        if fetcher is not None:
            _examine_fetched(fetcher, self._limit_bytes, lambda: self._read)


def _examine_fetched(fetcher: Any, limit_bytes: int, reader: Callable[[], ReadBatch | None]) -> None:
    """Let a fetcher of aiokafka hear only what can be read, and have it raise the errors of what cannot."""
    client = fetcher._client = _ExaminingClient(fetcher._client, limit_bytes, reader)
    process = fetcher._proc_fetch_request

    async def process_and_tell(assignment: Any, node_id: int, request: Any) -> bool:
        before = dict(fetcher._records)
        has_news: bool = await process(assignment, node_id, request)
        for tp, position in _positions(request).items():
            data, read, result = client.readable.pop(tp, None), reader(), fetcher._records.get(tp)
            if data and read and isinstance(result, FetchResult) and result is not before.get(tp):
                result._partition_records = BatchedRecords(result._partition_records, batches_of(data), read)
            error = client.errors.pop(tp, None)
            if error is None or not assignment.active or tp in fetcher._records:
                continue
            state = assignment.state_value(tp)
            if state.has_valid_position and state.position == position:
                fetcher._set_error(tp, error)
                has_news = True
        return has_news

    fetcher._proc_fetch_request = process_and_tell


class _ExaminingClient:
    """The client of a fetcher; answers to fetches are examined on their way, all else is the client's own."""

    def __init__(self, client: Any, limit_bytes: int, reader: Callable[[], ReadBatch | None]) -> None:
        self._client = client
        self._limit_bytes = limit_bytes
        self._reader = reader
        self.errors: dict[TopicPartition, UnreadableError] = {}
        self.readable: dict[TopicPartition, bytes] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **more: Any) -> Any:
        response = await self._client.send(node_id, request, **more)
        if isinstance(request, FetchRequest):
            positions = _positions(request)
            response.topics = [
                (
                    topic,
                    [
                        (partition, *said, await self._examined(topic, partition, said, data, positions))
                        for partition, *said, data in partitions
                    ],
                )
                for topic, partitions in response.topics
            ]
        return response

    async def _examined(
        self, topic: str, partition: int, said: list[Any], data: bytes | None, positions: _Positions
    ) -> bytes | None:
        """What can be read of an answer's bytes; `said` begins with the code of an error and the end of the log."""
        error_code, end = said[:2]
        if error_code or not data:
            return data
        tp = TopicPartition(topic, partition)
        arguments = data, positions[tp], end, self._limit_bytes, self._reader()
        found: Examined
        if is_compressed(data):
            # Heartbeats and other partitions go on meanwhile.
            found = await asyncio.get_running_loop().run_in_executor(_EXAMINER, examine, *arguments)
        else:
            found = examine(*arguments)
        if found.unreadable:
            self.errors[tp] = UnreadableError(tp, found.unreadable)
        self.readable[tp] = found.readable
        return found.readable


def _positions(request: Any) -> _Positions:
    """From where a request fetches."""
    return {
        TopicPartition(topic, partition): offset
        for topic, partitions in request.topics
        for partition, offset, _ in partitions
    }
