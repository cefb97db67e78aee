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
from typing import Any, Final, NamedTuple

import orjson
from kafka.errors import CoordinatorNotAvailableError, KafkaError

from schemas.decode import decode
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.console.progress import Report
from streams.console.refusals import Example, Refusals
from streams.errors import EbbtideError, UsageError, one_line
from streams.files.opening import STANDARD_INPUT
from streams.kafka.admin import admin_client
from streams.kafka.log_reader import read_last
from streams.kafka.log_writer import InputRecord, LogWriter, log_writer
from streams.kafka.partitioning import default_partition
from streams.kafka.topics import INPUT_MAX_MESSAGE_BYTES, check_topics
from streams.replay.log import Line
from streams.replay.reading import Tables, read_records
from streams.settings import Settings

LOADED_HEADER: Final = "ebbtide_loaded"
"""On a record that was sent from a file: the load, a colon, and the record's number in it."""
PART_RECORDS: Final = 5_000
"""Sent before their acknowledgements are waited for."""
PARTS_PER_S: Final = 10
"""With a rate, so many portions a second at most."""
COORDINATOR_TIMEOUT_S: Final = 20.0
LOOK_BACK_RECORDS: Final = 1_000
"""How far from a partition's end the last record of an earlier attempt is looked for: others may write there too."""
RECORD_OVERHEAD_BYTES: Final = 256
"""Of a batch and a record, beside key and value: more than Kafka's format and our header need."""
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
        await asyncio.to_thread(_check_not_begun, settings)
    load_id, loaded, done = _id_of(files, tables), Loaded(), 0
    reading = _Reading(settings, tables, refusals, topics.partitions, topics.input_max_bytes)
    at_once = PART_RECORDS if per_second is None else min(PART_RECORDS, max(per_second // PARTS_PER_S, 1))
    started_s = time.monotonic()
    async with log_writer(settings, linger_ms=5, max_batch_size=256 * 1024) as writer:
        for topic in (topic for topic in INPUT_TOPICS if files.get(topic)):
            found = reading.records(topic, files[topic])
            reached = await _reached(settings, load_id, topic)
            due = [one for one in found if one.number > reached.get(one.partition, 0)]
            loaded.already += len(found) - len(due)
            refusals.accepted += len(found) - len(due)
            for start in range(0, len(due), at_once):
                part = due[start : start + at_once]
                await _send(writer, part, [one.record(load_id, settings) for one in part], refusals, loaded)
                done += len(part)
                report(done, 0)
                if per_second is not None:
                    await asyncio.sleep(max(done / per_second - (time.monotonic() - started_s), 0.0))
    return loaded


class _Found(NamedTuple):
    """A record that can be sent; `number` is its place among those of its topic, from 1."""

    occurred_at_us: int
    line: Line
    key: bytes
    partition: int
    number: int = 0

    def record(self, load_id: str, settings: Settings) -> InputRecord:
        """As it is sent."""
        header = (LOADED_HEADER, f"{load_id}:{self.number}".encode())
        return InputRecord(
            settings.topic(self.line.topic), self.partition, self.key, self.line.value, (header,)
        )


class _Reading:
    """Makes records of lines: with a customer's key, in its partition."""

    def __init__(
        self, settings: Settings, tables: Tables, refusals: Refusals, partitions: int, most_bytes: int | None
    ) -> None:
        self._limit_bytes, self._tables, self._refusals = settings.decompressed_max_bytes, tables, refusals
        self._partitions, self._most_bytes = partitions, most_bytes or INPUT_MAX_MESSAGE_BYTES

    def records(self, topic: InputTopic, paths: Sequence[Path]) -> list[_Found]:
        """A topic's records in the order of time; those that no worker would take are refused."""
        found: list[_Found] = []
        for line in read_records({topic: paths}, self._limit_bytes, self._tables):
            self._refusals.read += 1
            event = line.why or decode(line.topic, line.value, line.key)
            if isinstance(event, Rejection):
                self._refuse(line, event.reason, event.message)
                continue
            key = event.customer_id.encode()
            if len(key) + len(line.value) + RECORD_OVERHEAD_BYTES > self._most_bytes:
                self._refuse(line, TOO_LARGE, f"$: the topic takes {self._most_bytes:,} bytes in a batch")
                continue
            place = default_partition(key, self._partitions)
            found.append(_Found(event.occurred_at_us, line, key, place))
        found.sort(key=lambda one: one.occurred_at_us)
        return [one._replace(number=number) for number, one in enumerate(found, start=1)]

    def _refuse(self, line: Line, reason: str, message: str) -> None:
        self._refusals.add(reason, Example(line.file, line.number, message))


async def _send(
    writer: LogWriter,
    part: Sequence[_Found],
    records: Sequence[InputRecord],
    refusals: Refusals,
    loaded: Loaded,
) -> None:
    for one, answer in zip(part, await writer.send(records), strict=True):
        if isinstance(answer, Exception):
            refusals.add(NOT_TAKEN, Example(one.line.file, one.line.number, one_line(answer)))
        else:
            loaded.sent[one.line.topic] += 1
            refusals.accepted += 1


def _check_not_begun(settings: Settings) -> None:
    group = settings.group_id
    with admin_client(settings) as admin:
        committed = _committed(admin, group)
        try:
            members = admin.describe_groups([group])[group]["members"]
        except KafkaError:  # newer brokers say so of a group that they do not know
            members = []
    inputs = {settings.topic(topic) for topic in INPUT_TOPICS}
    has_offsets = any(tp.topic in inputs and offset.offset >= 0 for tp, offset in committed.items())
    if has_offsets or members:
        said = "has begun with these topics" if has_offsets else "is running"
        raise UsageError(
            f"the worker of group {group} {said}: what is loaded now is taken as live, and the changes that it makes "
            "are published one by one; --live loads it all the same"
        )


def _committed(admin: Any, group: str) -> Mapping[Any, Any]:
    """What a group has committed; a cluster that had no group yet makes the topic for that first."""
    deadline_s = time.monotonic() + COORDINATOR_TIMEOUT_S
    while True:
        try:
            found: Mapping[Any, Any] = admin.list_group_offsets(group)[group]
            return found
        except CoordinatorNotAvailableError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)


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


async def _reached(settings: Settings, load_id: str, topic: InputTopic) -> dict[int, int]:
    """By partition, the number of the last record that an earlier attempt at this load sent there."""
    reached: dict[int, int] = {}
    async for record in read_last(settings, topic, LOOK_BACK_RECORDS):
        for name, value in record.headers:
            of, _, number = value.partition(b":")
            if name == LOADED_HEADER and of == load_id.encode() and number.isdigit():
                reached[record.partition] = max(reached.get(record.partition, 0), int(number))
    return reached
