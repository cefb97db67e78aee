"""A read_committed consumer of the outputs that runs all through a case, and keeps what came in its order."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.dead_letters import OFFSET_HEADER, PARTITION_HEADER, TOPIC_HEADER
from streams.settings import Settings
from tests.integration.harness import Document

TOPICS = ("segment-changes", "reactivation-triggers", "dead-letters", "customer-profiles")
FETCH_TIMEOUT_MS = 200
RETRY_S = 0.5


@dataclass
class Seen:
    """What came.

    Of profiles only the last of each customer is kept. `news` are, per partition, (when made, when seen) of the
    newest record of each fetch, in seconds since the epoch.
    """

    changes: list[Document] = field(default_factory=list)
    triggers: list[Document] = field(default_factory=list)
    dead_letters: list[tuple[str, int, int]] = field(default_factory=list)
    profiles: dict[str, Document] = field(default_factory=dict)
    news: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    out_of_order: int = 0


class CommittedReader:
    """Reads in a thread of its own; `seen` is complete after `drain`."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self.seen = Seen()
        self._settings = settings
        self._next = {
            TopicPartition(settings.topic(name), partition): 0
            for name in TOPICS
            for partition in range(partitions)
        }
        self._names = {settings.topic(name): name for name in TOPICS}
        self._ends: dict[TopicPartition, int] | None = None
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._asked = threading.Event()
        self._drained = threading.Event()
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to read, at the beginning of the topics."""
        self._thread.start()

    def drain(self, timeout_s: float = 120.0) -> None:
        """Return once everything that is committed by now has been seen."""
        self._drained.clear()
        self._asked.set()
        deadline = time.monotonic() + timeout_s
        while not self._drained.wait(0.1):
            if self._failure is not None or time.monotonic() > deadline:
                raise AssertionError(f"the reader is not through: {self._failure!r}, next {self._next}")

    def begin_anew(self, name: str, create: Callable[[], object]) -> None:
        """Create a topic anew while nothing is read, and read it from its beginning from then on."""
        self.stop()
        create()
        for tp in self._next:
            if self._names[tp.topic] == name:
                self._next[tp] = 0
        self._stopping.clear()
        self._thread = self._new_thread()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="read_committed reader", daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._read())
        except BaseException as error:
            self._failure = error

    async def _read(self) -> None:
        """Read on where it was, with a new consumer after an error that a broken broker may cause."""
        while not self._stopping.is_set():
            try:
                async with AIOKafkaConsumer(
                    bootstrap_servers=self._settings.kafka_bootstrap_servers,
                    isolation_level="read_committed",
                    auto_offset_reset="none",
                    enable_auto_commit=False,
                    max_partition_fetch_bytes=8 * 1024 * 1024,
                    fetch_max_wait_ms=100,
                ) as consumer:
                    consumer.assign(list(self._next))
                    for tp, offset in self._next.items():
                        consumer.seek(tp, offset)
                    await self._read_from(consumer)
            except OffsetOutOfRangeError:
                raise
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _read_from(self, consumer: Any) -> None:
        while not self._stopping.is_set():
            if self._asked.is_set():
                self._ends = await consumer.end_offsets(list(self._next))
                self._asked.clear()
            for tp, records in (await consumer.getmany(timeout_ms=FETCH_TIMEOUT_MS)).items():
                self._take(tp, records)
            for tp in self._next:
                self._next[tp] = await consumer.position(tp)
            if self._ends is not None and all(self._next[tp] >= end for tp, end in self._ends.items()):
                self._ends = None
                self._drained.set()

    def _take(self, tp: TopicPartition, records: list[Any]) -> None:
        name = self._names[tp.topic]
        news = self.seen.news.setdefault(tp.partition, [])
        news.append((max(record.timestamp for record in records) / 1_000, time.time()))
        for record in records:
            if record.offset < self._next[tp]:
                self.seen.out_of_order += 1
            self._next[tp] = record.offset + 1
            if name == "segment-changes":
                self.seen.changes.append(orjson.loads(record.value))
            elif name == "reactivation-triggers":
                self.seen.triggers.append(orjson.loads(record.value))
            elif name == "dead-letters":
                self.seen.dead_letters.append(self._source(dict(record.headers)))
            elif record.value is None:
                self.seen.profiles.pop(record.key.decode(), None)
            else:
                self.seen.profiles[record.key.decode()] = orjson.loads(record.value)

    def _source(self, headers: dict[str, bytes]) -> tuple[str, int, int]:
        topic = headers[TOPIC_HEADER].decode().removeprefix(self._settings.topic_prefix)
        return topic, int(headers[PARTITION_HEADER]), int(headers[OFFSET_HEADER])
