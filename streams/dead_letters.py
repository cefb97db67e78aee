"""`dead-letters` read back: what was refused, why, and where it came from; and sent to its input once more."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
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
from streams.errors import EbbtideError
from streams.log_reader import read_to_end
from streams.log_writer import log_writer
from streams.settings import Settings
from streams.size_limits import TRUNCATED_HEADER
from streams.topics import DEAD_LETTERS, INPUTS

REDRIVEN_HEADER: Final = "ebbtide_redriven_from"
"""On a record that was sent again: the place of its dead letter."""
IN_FLIGHT: Final = 100
"""Records sent before their acknowledgements are waited for."""

Place = tuple[int, int]
"""Partition and offset in `dead-letters`."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record; `topic`, `partition` and `offset` are where it was read, the topic's name as Kafka has it.

    `at_us` is when the letter was written. `truncated_from_bytes` is the size of an original of which the letter holds
    the beginning only.
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

    def ready(self, letters: Sequence[DeadLetter], settings: Settings) -> list[DeadLetter]:
        """Those that can be sent; the others are noted."""
        inputs = {settings.topic(name) for name in INPUTS}
        ready = []
        for letter in letters:
            if letter.topic not in inputs:
                self.left.append((letter, f"{letter.topic} is no input with this topic prefix"))
            elif letter.truncated_from_bytes is not None:
                self.left.append(
                    (letter, f"it holds the beginning of {letter.truncated_from_bytes:,} bytes only")
                )
            else:
                ready.append(letter)
        return ready


async def dead_letters(settings: Settings, chosen: Chosen) -> AsyncIterator[DeadLetter]:
    """The chosen letters up to the topic's present end, those of a partition in order.

    Records in `dead-letters` that are no dead letters of a worker are passed over.

    Raises:
        EbbtideError: Kafka does not answer, there is no such topic, or a place that was asked for holds no letter.
    """
    missing = set(chosen.places)
    async for record in read_to_end(settings, [DEAD_LETTERS]):
        letter = _letter(record)
        if letter is not None and chosen.fits(letter, settings):
            missing.discard(letter.place)
            yield letter
    if missing:
        raise EbbtideError(f"no dead letter that fits at {', '.join(map(place_text, sorted(missing)))}")


async def redrive(settings: Settings, chosen: Chosen, *, is_dry: bool) -> Redriven:
    """Send the chosen letters' originals to where they came from; `is_dry` only tells what would be sent.

    They go to the same partition, in the order of the letters; the worker counts none of them twice, as long as it
    remembers their ids (docs/contract.md). What is refused again becomes a new letter. Where places are asked for,
    nothing is sent unless each holds a letter.

    Raises:
        EbbtideError: as of `dead_letters`; or a record was not taken, and how many had been before.
    """
    found = Redriven()
    if is_dry:
        async for part in _parts(settings, chosen):
            found.sent.update(letter.topic for letter in found.ready(part, settings))
        return found
    try:
        async with log_writer(settings) as producer:
            async for part in _parts(settings, chosen):
                letters = found.ready(part, settings)
                await asyncio.gather(*[await _sent(producer, letter) for letter in letters])
                found.sent.update(letter.topic for letter in letters)
    except EbbtideError as error:
        done = found.sent.total()
        raise EbbtideError(f"{error} ({done:,} records were sent before)" if done else str(error)) from error
    return found


async def _parts(settings: Settings, chosen: Chosen) -> AsyncIterator[list[DeadLetter]]:
    """The chosen letters, so many at a time; all at once where places are asked for."""
    part: list[DeadLetter] = []
    async for letter in dead_letters(settings, chosen):
        part.append(letter)
        if len(part) >= IN_FLIGHT and not chosen.places:
            yield part
            part = []
    yield part


async def _sent(producer: Any, letter: DeadLetter) -> Any:
    """The acknowledgement to come of a letter's original."""
    said = f"{DEAD_LETTERS} {place_text(letter.place)}".encode()
    return await producer.send(
        letter.topic,
        letter.value,
        key=letter.key,
        partition=letter.partition,
        headers=[(REDRIVEN_HEADER, said)],
    )


def place_text(place: Place) -> str:
    """As `dlq list` prints it and `dlq redrive` takes it."""
    return f"{place[0]}:{place[1]}"


def _letter(record: ConsumerRecord) -> DeadLetter | None:
    said = {name: value.decode(errors="replace") for name, value in record.headers if value is not None}
    try:
        truncated = said.get(TRUNCATED_HEADER)
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
        )
    except (KeyError, ValueError):
        return None


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
