"""`dead-letters` read back: what was refused, why, and where it came from; and sent to its input once more."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import ConsumerRecord

from enrichment.days import format_time
from schemas.dead_letters import (
    EXCEPTION_HEADER,
    MESSAGE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    TOPIC_HEADER,
)
from schemas.topics import DEAD_LETTERS
from streams.errors import EbbtideError, one_line
from streams.kafka.log_reader import read_to_end
from streams.kafka.log_writer import InputRecord, LogWriter, log_writer
from streams.kafka.size_limits import (
    BATCH_OVERHEAD_BYTES,
    DEFAULT_MAX_BYTES,
    KEY_TRUNCATED_HEADER,
    TRUNCATED_HEADER,
)
from streams.kafka.topics import INPUTS, TopicStatus, existing_topics
from streams.settings import Settings
from streams.worker.outputs import OFFSETS_HEADER

REDRIVEN_HEADER: Final = "ebbtide_redriven_from"
"""On a record that was sent again: the place of its dead letter."""
PART_LETTERS: Final = 500
PART_BYTES: Final = 8 * 1024 * 1024
"""What is sent before its acknowledgements are waited for, so that as much is in memory."""

Place = tuple[int, int]
"""Partition and offset in `dead-letters`."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record; `topic`, `partition` and `offset` are where it was read, the topic's name as Kafka has it.

    `at_us` is when the letter was written. `truncated_from_bytes` is the size of an original of which the letter holds
    the beginning only, and `key_truncated_from_bytes` the same of its key. `offsets` are those that were skipped, of
    which the letter holds the bytes as Kafka had them.
    """

    place: Place
    at_us: int
    topic: str
    partition: int
    offset: int
    reason: str
    message: str
    key: bytes | None
    value: bytes | None
    truncated_from_bytes: int | None
    key_truncated_from_bytes: int | None = None
    offsets: str | None = None

    def document(self) -> dict[str, Any]:
        """For programs; key and value in Base64, null where there is none."""
        return {
            "dead_letter": place_text(self.place),
            "at": format_time(self.at_us),
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "reason": self.reason,
            "message": self.message,
            "key_base64": _base64(self.key),
            "value_base64": _base64(self.value),
            "truncated_from_bytes": self.truncated_from_bytes,
            "key_truncated_from_bytes": self.key_truncated_from_bytes,
            "offsets": self.offsets,
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which letters: those that fit everything that is given. Topics are without prefix; times are the letters' own."""

    topics: Collection[str] = ()
    reasons: Collection[str] = ()
    since_us: int | None = None
    until_us: int | None = None
    places: Collection[Place] = ()

    def fits(self, letter: DeadLetter, settings: Settings) -> bool:
        """Whether a letter is one of them."""
        return (
            (not self.topics or letter.topic in {settings.topic(name) for name in self.topics})
            and (not self.reasons or letter.reason in self.reasons)
            and (self.since_us is None or letter.at_us >= self.since_us)
            and (self.until_us is None or letter.at_us <= self.until_us)
            and (not self.places or letter.place in self.places)
        )


@dataclass(slots=True)
class Redriven:
    """What became of the letters: records sent by input topic, and letters that could not be, with the reason."""

    sent: Counter[str] = field(default_factory=Counter)
    left: list[tuple[DeadLetter, str]] = field(default_factory=list)


async def dead_letters(settings: Settings, chosen: Chosen) -> AsyncIterator[DeadLetter]:
    """The chosen letters up to the topic's present end, those of a partition in order.

    Records in `dead-letters` that are no dead letters of a worker are passed over.

    Raises:
        EbbtideError: Kafka does not answer, there is no such topic, or a place that was asked for holds no letter.
    """
    await asyncio.to_thread(existing_topics, settings, [DEAD_LETTERS])
    missing = set(chosen.places)
    first_offsets = None
    if chosen.places:
        # Of each partition the lowest is left, being the last one put in.
        first_offsets = dict(sorted(chosen.places, reverse=True))
    async with aclosing(read_to_end(settings, [DEAD_LETTERS], first_offsets)) as records:
        async for record in records:
            letter = _letter(record)
            if letter is not None and chosen.fits(letter, settings):
                missing.discard(letter.place)
                yield letter
                if chosen.places and not missing:
                    return
    if missing:
        raise EbbtideError(f"no dead letter that fits at {', '.join(map(place_text, sorted(missing)))}")


async def redrive(settings: Settings, chosen: Chosen, *, is_dry: bool) -> Redriven:
    """Send the chosen letters' originals to where they came from; `is_dry` only tells what would be sent.

    They go to the same partition, in the order of the letters; the worker counts none of them twice, as long as it
    remembers their ids (docs/contract.md). What is refused again becomes a new letter, which is not sent by the same
    call. Where places are asked for, nothing is sent unless each holds a letter.

    Raises:
        EbbtideError: as of `dead_letters`, or Kafka does not answer in time; and how many records had been sent.
    """
    found = Redriven()
    redriving = _Redriving(await asyncio.to_thread(existing_topics, settings, INPUTS), found)
    if is_dry:
        async for part in _parts(settings, chosen):
            found.sent.update(letter.topic for letter in redriving.ready(part))
        return found
    try:
        async with log_writer(settings) as writer:
            async for part in _parts(settings, chosen):
                await redriving.send(part, writer)
    except EbbtideError as error:
        done = found.sent.total()
        raise EbbtideError(f"{error} ({done:,} records were sent before)" if done else str(error)) from error
    return found


class _Redriving:
    """Sends part after part; `inputs` are by full name."""

    def __init__(self, inputs: Mapping[str, TopicStatus], found: Redriven) -> None:
        self._inputs = inputs
        self._found = found
        self._first_sent: dict[tuple[str, int], int] = {}

    async def send(self, part: Sequence[DeadLetter], writer: LogWriter) -> None:
        """Send what can be sent of these, and note the rest."""
        letters = self.ready(part)
        answers = await writer.send([_original(letter) for letter in letters])
        for letter, answer in zip(letters, answers, strict=True):
            if isinstance(answer, Exception):
                self._found.left.append((letter, f"Kafka refused it: {one_line(answer)}"))
            else:
                self._found.sent[letter.topic] += 1
                self._first_sent.setdefault((letter.topic, letter.partition), answer.offset)

    def ready(self, part: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those that can be sent; others are noted, but for the letters of what this call itself has sent."""
        ready = []
        for letter in part:
            first_sent = self._first_sent.get((letter.topic, letter.partition))
            if first_sent is not None and letter.offset >= first_sent:
                continue
            reason = self._obstacle(letter)
            if reason is None:
                ready.append(letter)
            else:
                self._found.left.append((letter, reason))
        return ready

    def _obstacle(self, letter: DeadLetter) -> str | None:
        topic = self._inputs.get(letter.topic)
        if letter.offsets is not None and letter.key is None:
            return f"it holds what was at offsets {letter.offsets} as Kafka had it, which is no record"
        if topic is None:
            return f"{letter.topic} is no input with this topic prefix"
        if not 0 <= letter.partition < topic.partitions:
            return f"{letter.topic} has no partition {letter.partition}"
        size_bytes = len(letter.key or b"") + len(letter.value or b"") + BATCH_OVERHEAD_BYTES
        most_bytes = topic.max_message_bytes or DEFAULT_MAX_BYTES
        if size_bytes > most_bytes:
            return f"it is too large for {letter.topic} (max.message.bytes {most_bytes}), unless compressed"
        if letter.truncated_from_bytes is not None:
            return f"it holds the beginning of {letter.truncated_from_bytes:,} bytes only"
        if letter.key_truncated_from_bytes is not None:
            return f"it holds the beginning of a key of {letter.key_truncated_from_bytes:,} bytes only"
        if letter.key is None and letter.value is None:
            return "it had neither key nor value"
        return None


async def _parts(settings: Settings, chosen: Chosen) -> AsyncIterator[list[DeadLetter]]:
    """The chosen letters, so many at a time; all at once where places are asked for."""
    part: list[DeadLetter] = []
    part_bytes = 0
    async for letter in dead_letters(settings, chosen):
        part.append(letter)
        part_bytes += len(letter.value or b"")
        if (len(part) >= PART_LETTERS or part_bytes >= PART_BYTES) and not chosen.places:
            yield part
            part, part_bytes = [], 0
    yield part


def _original(letter: DeadLetter) -> InputRecord:
    said = f"{DEAD_LETTERS} {place_text(letter.place)}".encode()
    return InputRecord(letter.topic, letter.partition, letter.key, letter.value, ((REDRIVEN_HEADER, said),))


def place_text(place: Place) -> str:
    """As `dlq list` prints it and `dlq redrive` takes it."""
    return f"{place[0]}:{place[1]}"


def _letter(record: ConsumerRecord) -> DeadLetter | None:
    said = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    try:
        truncated, key_truncated = said.get(TRUNCATED_HEADER), said.get(KEY_TRUNCATED_HEADER)
        return DeadLetter(
            (record.partition, record.offset),
            record.timestamp * 1_000,
            said[TOPIC_HEADER],
            int(said[PARTITION_HEADER]),
            int(said[OFFSET_HEADER]),
            said[EXCEPTION_HEADER],
            said[MESSAGE_HEADER],
            record.key,
            record.value,
            None if truncated is None else int(truncated),
            None if key_truncated is None else int(key_truncated),
            said.get(OFFSETS_HEADER),
        )
    except (KeyError, ValueError):
        return None


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
