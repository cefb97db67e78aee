"""`ebbtide load`: files into the input topics, keyed by customer, from where an earlier attempt stopped.

One topic comes after the other, and the records of each in the order of their dates, in whichever order the files have
them: so nothing is too late by what came before it. Each record that is sent carries a header with what it is of: this
load, and its number there. So the last records of each partition tell how far an earlier attempt came, and nothing but
Kafka needs to remember it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from kafka.errors import GroupIdNotFoundError

from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.console.progress import Report
from streams.console.refusals import Example, Refusals
from streams.errors import EbbtideError, UsageError, one_line
from streams.files.opening import STANDARD_INPUT
from streams.kafka.admin import admin_client
from streams.kafka.clients import read_committed_offsets
from streams.kafka.log_reader import read_to_end
from streams.kafka.log_writer import InputRecord, LogWriter, log_writer
from streams.kafka.partitioning import default_partition
from streams.kafka.size_limits import BATCH_OVERHEAD_BYTES
from streams.kafka.topics import INPUT_MAX_MESSAGE_BYTES, TopicReport, check_topics
from streams.replay.log import Line
from streams.replay.reading import Tables, read_records
from streams.settings import Settings

LOADED_HEADER: Final = "ebbtide_loaded"
"""On a record that was sent from a file: the load, a colon, and the record's number in it."""
PART_RECORDS: Final = 5_000
"""Sent before their acknowledgements are waited for."""
PARTS_PER_S: Final = 10
"""With a rate, so many portions a second at most."""
LOOK_BACK_RECORDS: Final = 1_000
"""How far from a partition's end the last record of an earlier attempt is looked for: others may write there too."""
TOO_LARGE: Final = "TooLarge"
NOT_TAKEN: Final = "NotTaken"

Files = Mapping[InputTopic, Sequence[Path]]


@dataclass(slots=True)
class Loaded:
    """How many records were sent, by topic, and how many an earlier attempt had sent."""

    sent: Counter[InputTopic] = field(default_factory=Counter)
    already: int = 0


async def load(
    settings: Settings,
    files: Files,
    tables: Tables,
    refusals: Refusals,
    report: Report,
    *,
    live: bool = False,
    per_second: int | None = None,
) -> Loaded:
    """Send the records of files to their topics, those of a topic in the order of time; `refusals` tells of the others.

    The records of one topic are in memory at a time. Unless it is `live`, they are sent only where the worker has not
    begun: what is there then, it takes without publishing the changes of the past (docs/contract.md, First load).

    Raises:
        UsageError: The worker has begun, or is running, and this is not `live`; or a table lacks a column.
        EbbtideError: Kafka does not answer, the topics are not as the worker needs them, or a file is damaged.
        OSError: A file cannot be read.
    """
    topics = await asyncio.to_thread(check_topics, settings)
    if topics.errors or topics.partitions is None:
        raise EbbtideError("; ".join(topics.errors))
    if not live:
        await asyncio.to_thread(_check_not_begun, settings, topics.partitions)
    loaded, rate = Loaded(), _Rate(per_second)
    reading = _Reading(settings, tables, refusals, topics, _id_of(files, tables))
    async with log_writer(settings, linger_ms=5, max_batch_size=256 * 1024) as writer:
        for topic in (topic for topic in INPUT_TOPICS if files.get(topic)):
            found = reading.records(topic, files[topic])
            reached = await _reached(settings, reading.load_id, topic)
            due = [one for one in found if one.number > reached.get(one.record.partition, 0)]
            loaded.already += len(found) - len(due)
            refusals.accepted += len(found) - len(due)
            for start in range(0, len(due), rate.at_once):
                part = due[start : start + rate.at_once]
                await rate.wait(len(part))
                await _send(writer, part, refusals, loaded)
                report(loaded.sent.total(), 0)
    return loaded


class _Rate:
    """When the next portion may be sent, and how large portions are."""

    def __init__(self, per_second: int | None) -> None:
        self._per_second, self._next_s = per_second, 0.0
        self.at_once = PART_RECORDS
        if per_second is not None:
            self.at_once = min(PART_RECORDS, max(per_second // PARTS_PER_S, 1))

    async def wait(self, records: int) -> None:
        """Return once so many may be sent; time in which nothing was sent is not made up for."""
        if self._per_second is None:
            return
        begin_s = max(self._next_s, time.monotonic())
        self._next_s = begin_s + records / self._per_second
        await asyncio.sleep(begin_s - time.monotonic())


class _Found(NamedTuple):
    """A record that can be sent, and the line that it was; `number` is its place in its topic, from 1."""

    number: int
    topic: InputTopic
    file: str
    line: int
    record: InputRecord


class _Reading:
    """Makes records of lines: with a customer's key, in its partition."""

    def __init__(
        self, settings: Settings, tables: Tables, refusals: Refusals, topics: TopicReport, load_id: str
    ) -> None:
        assert topics.partitions is not None
        self._settings, self._tables, self._refusals = settings, tables, refusals
        self._partitions = topics.partitions
        self._most_bytes = (topics.input_max_bytes or INPUT_MAX_MESSAGE_BYTES) - BATCH_OVERHEAD_BYTES
        self.load_id = load_id

    def records(self, topic: InputTopic, paths: Sequence[Path]) -> list[_Found]:
        """A topic's records in the order of time; those that are wrong in themselves, or too large, are refused."""
        dated: list[tuple[int, bytes, Line]] = []
        for line in read_records({topic: paths}, self._settings.decompressed_max_bytes, self._tables):
            self._refusals.read += 1
            event = line.why or decode(line.topic, line.value, line.key)
            if isinstance(event, Rejection):
                self._refuse(line, event.reason, event.message)
                continue
            key = event.customer_id.encode()
            if len(key) + len(line.value) > self._most_bytes:
                self._refuse(line, TOO_LARGE, f"$: larger than {self._most_bytes:,} bytes with its key")
                continue
            dated.append((event.occurred_at_us, key, line))
        dated.sort(key=lambda one: one[0])
        return [self._found(number, key, line) for number, (_, key, line) in enumerate(dated, start=1)]

    def _found(self, number: int, key: bytes, line: Line) -> _Found:
        place = default_partition(key, self._partitions)
        header = (LOADED_HEADER, f"{self.load_id}:{number}".encode())
        record = InputRecord(self._settings.topic(line.topic), place, key, line.value, (header,))
        return _Found(number, line.topic, line.file, line.number, record)

    def _refuse(self, line: Line, reason: str, message: str) -> None:
        self._refusals.add(reason, Example(line.file, line.number, message))


async def _send(writer: LogWriter, part: Sequence[_Found], refusals: Refusals, loaded: Loaded) -> None:
    for one, answer in zip(part, await writer.send([one.record for one in part]), strict=True):
        if isinstance(answer, Exception):
            refusals.add(NOT_TAKEN, Example(one.file, one.line, one_line(answer)))
        else:
            loaded.sent[one.topic] += 1
            refusals.accepted += 1


def _check_not_begun(settings: Settings, partitions: int) -> None:
    has_offsets = any(
        offset is not None
        for partition in range(partitions)
        for offset in read_committed_offsets(settings, partition).values()
    )
    if has_offsets or _has_members(settings):
        said = "has begun with these topics" if has_offsets else "is running"
        raise UsageError(
            f"the worker of group {settings.group_id} {said}: what is loaded now is taken as live, and the changes "
            "that it makes are published one by one; --live loads it all the same"
        )


def _has_members(settings: Settings) -> bool:
    group = settings.group_id
    with admin_client(settings) as admin:
        try:
            return bool(admin.describe_groups([group])[group]["members"])
        except GroupIdNotFoundError:
            return False


def _id_of(files: Files, tables: Tables) -> str:
    """What tells a load from others: its files, by name, size and last change, and how tables are read."""
    of_files = [
        (topic, str(path.resolve()), stat.st_size, stat.st_mtime_ns)
        for topic, paths in sorted(files.items())
        for path in paths
        if str(path) != STANDARD_INPUT
        for stat in (path.stat(),)
    ]
    from_input = any(str(path) == STANDARD_INPUT for paths in files.values() for path in paths)
    what = [of_files, sorted(tables.columns.items()), tables.currency, time.time_ns() if from_input else 0]
    return hashlib.sha256(orjson.dumps(what)).hexdigest()[:16]


async def _reached(settings: Settings, load_id: str, topic: InputTopic) -> dict[int | None, int]:
    """By partition, the number of the last record that an earlier attempt at this load sent there."""
    reached: dict[int | None, int] = {}
    async for record in read_to_end(settings, [topic], last=LOOK_BACK_RECORDS):
        for name, value in record.headers:
            of, _, number = value.partition(b":")
            if name == LOADED_HEADER and of == load_id.encode() and number.isdigit():
                reached[record.partition] = max(reached.get(record.partition, 0), int(number))
    return reached
