"""`ebbtide.replay`: logs of records through the rules of the live worker, with no broker and no Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from enrichment.customer.validation import Horizons
from enrichment.days import format_time
from enrichment.model import Model, load_model
from schemas.documents import ChangeDocument, ProfileDocument, TriggerDocument
from schemas.timestamps import parse_timestamp
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.replay.documents import replayed_documents
from streams.replay.log import Line, ReplayLog, ordered_log
from streams.replay.reading import read_records

Record = Mapping[str, Any] | bytes
"""What a record says, or its JSON."""
Source = str | Path | Iterable[str | Path | Record]
"""A file of JSON Lines (`.jsonl`, `.jsonl.gz`), or several, or records themselves."""
Until = str | date | int | None
"""An end: RFC 3339, a date (its first instant), a `datetime` (UTC if it is naive), or microseconds since 1970."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RefusedRecord(NamedTuple):
    """A record that was not taken.

    `reason` is one of the contract's, such as `Malformed`; `message` names the field. `file` is empty and `line` counts
    from 1 within the topic where the record came from no file.
    """

    topic: InputTopic
    reason: str
    message: str
    value: bytes
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay makes: the documents that `ebbtide replay` writes to its files, in the same order.

    `outcomes` counts records by topic and by `accepted`, `duplicate`, `dead_letter`, `after_until` or `erased`.
    """

    changes: list[ChangeDocument]
    triggers: list[TriggerDocument]
    profiles: list[ProfileDocument]
    refused: list[RefusedRecord]
    outcomes: Counter[tuple[str, str]]
    as_of: str
    """The time of every profile: the end that was asked for, or that of the latest record."""
    model: Model


def replay(
    purchases: Source = (),
    engagements: Source = (),
    consents: Source = (),
    *,
    model: Model | str | Path | None = None,
    until: Until = None,
    horizons: Horizons | None = None,
) -> Replayed:
    """Run records through the rules of the worker, in the order of their dates, with every midnight in between.

        replayed = ebbtide.replay(purchases="purchases.jsonl.gz", until="2025-06-30")
        replayed.changes[0]["current"]

    The same records and the same model give the same results, in whatever order the records came. This runs in one
    process and keeps everything in memory; for tens of millions of records take the command `ebbtide replay`.

    Args:
        purchases: Files of JSON Lines, or records, as docs/contract.md describes them.
        engagements: The same, of opens, clicks, visits and declarations.
        consents: The same, of consents and erasures.
        model: The value model or its file; None takes the built-in one.
        until: Records after this time are left out, and every profile is as of it. None takes the latest record.
        horizons: How late a record may be; None takes the contract's limits.

    Raises:
        EbbtideError: A file is damaged, or no JSON Lines.
        ModelError: The model's file does not fit.
        OSError: A file cannot be read.
        RefusedError: `until` is no time.
    """
    used = model_of(model)
    sources: dict[InputTopic, Source] = {
        "consents": consents,
        "purchases": purchases,
        "engagements": engagements,
    }
    lines = (line for topic in INPUT_TOPICS for line in _lines(topic, sources[topic]))
    until_us = time_us(until)
    return replayed(ordered_log(lines, used, until_us), used, until_us, horizons)


def replayed(log: ReplayLog, model: Model, until_us: int | None, horizons: Horizons | None) -> Replayed:
    """What becomes of an ordered log."""
    end_us = log.end_us(until_us)
    found = replayed_documents(log, model, end_us, horizons)
    return Replayed(
        found.changes,
        found.triggers,
        found.profiles,
        refused_records(log),
        log.outcomes + found.outcomes,
        format_time(end_us),
        model,
    )


def refused_records(log: ReplayLog) -> list[RefusedRecord]:
    """The dead letters of a log, by topic and by where they were read."""
    refused = [
        RefusedRecord(line.topic, why.reason, why.message, line.value, line.file, line.number)
        for line, why in log.dead_letters
    ]
    return sorted(refused, key=lambda one: (INPUT_TOPICS.index(one.topic), one.file, one.line, one.reason))


def model_of(model: Model | str | Path | None) -> Model:
    """The model itself, of a file, or the built-in one."""
    return model if isinstance(model, Model) else load_model(model)


def time_us(until: Until) -> int | None:
    """Microseconds since 1970 of an end."""
    if until is None or isinstance(until, int):
        return until
    if isinstance(until, str):
        return parse_timestamp(until if "T" in until or " " in until else f"{until}T00:00:00Z")
    if isinstance(until, datetime):
        at = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        return (at - _EPOCH) // timedelta(microseconds=1)
    return parse_timestamp(f"{until.isoformat()}T00:00:00Z")


def _lines(topic: InputTopic, source: Source) -> Iterator[Line]:
    number = 0
    for one in (source,) if isinstance(source, (str, Path)) else source:
        if isinstance(one, (str, Path)):
            yield from read_records({topic: (Path(one),)})
            continue
        number += 1
        yield Line(topic, one if isinstance(one, bytes) else orjson.dumps(one), "", number)
