"""Replay: a log of events from files through the same core as live, with no broker and no Redis.

The same set of events and the same model give the same bytes, however the files were ordered.
"""

from __future__ import annotations

import gzip
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import orjson

from enrichment.acceptance import TOPICS, Horizons, Topic, check_against_model, topic_of
from enrichment.customer import Customer, empty_state
from enrichment.days import DAY_US, day_of, format_time, midnight_us
from enrichment.enricher import Enricher
from enrichment.model import Model
from enrichment.profile import Document, model_document
from enrichment.results import Results
from schemas.dead_letters import FROM_THE_FUTURE, Rejection, rejection, replay_line
from schemas.decode import decode
from schemas.events import Event
from schemas.profiles import DIMENSIONS
from schemas.timestamps import parse_timestamp
from streams.errors import EbbtideError

NAMESPACE = "replay"
LONGEST_GAP_DAYS = 400
"""Without an end given, a record this long after all before it is of a wrong clock, not after silence."""
BATCH_EVENTS = 10_000

Report = Callable[[int, int], None]
"""Called with (events done, events in all)."""


class _Dated(NamedTuple):
    """A record in its place in the order of replay."""

    occurred_at_us: int
    topic_rank: int
    customer_id: str
    event_id: str
    value: bytes
    event: Event


@dataclass(slots=True)
class ReplayLog:
    """Records in replay order, and what was refused or ignored on the way there."""

    records: list[_Dated] = field(default_factory=list)
    dead_letters: list[tuple[Topic, bytes, Rejection]] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def refuse(self, topic: Topic, value: bytes, refused: Rejection) -> None:
        """Count and keep a dead letter."""
        self.dead_letters.append((topic, value, refused))
        self.outcomes[topic, "dead_letter"] += 1


@dataclass(slots=True)
class Replayed:
    """What a replay makes, before it is written. `end_us` is the time that every profile is as of."""

    results: Results
    customers: dict[str, Customer]
    profiles: list[Document]
    log: ReplayLog
    end_us: int
    elapsed_s: float


def run_replay(
    purchases: Sequence[Path],
    engagements: Sequence[Path],
    consents: Sequence[Path],
    out: Path,
    model: Model,
    until_us: int | None,
    horizons: Horizons | None = None,
    report: Report | None = None,
) -> Document:
    """Replay JSON Lines (`.jsonl`, `.jsonl.gz`), write the five files into `out`; gives the summary."""
    files: dict[Topic, Sequence[Path]] = {
        "consents": consents,
        "purchases": purchases,
        "engagements": engagements,
    }
    values = ((topic, value) for topic in TOPICS for path in files[topic] for value in read_lines(path))
    replayed = replay(values, model, until_us, horizons, report)
    return write_replay(replayed, model, out)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file as they are, without their ends.

    Raises:
        EbbtideError: A compressed file is cut off or damaged, or is not compressed at all.
        OSError: The file cannot be read.
    """
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as lines:
            for line in lines:
                yield line.rstrip(b"\r\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EbbtideError(f"{path}: cannot be decompressed: {error}") from error


def replay(
    values: Iterator[tuple[Topic, bytes]],
    model: Model,
    until_us: int | None = None,
    horizons: Horizons | None = None,
    report: Report | None = None,
) -> Replayed:
    """Take records in the order of `occurred_at`, topic, customer, event id and bytes; midnights in between.

    `values` may come in any order. Records after `until_us` are ignored and counted.
    """
    started_s = time.perf_counter()
    log = ordered_log(values, model, until_us)
    enricher = Enricher(model, NAMESPACE, horizons)
    results, customers = Results(model), dict[str, Customer]()
    index = _DueIndex(customers)
    end_us = until_us if until_us is not None else (log.records[-1].occurred_at_us if log.records else 0)
    for number, (day, batch) in enumerate(_batches(log.records)):
        _pass_midnight(day, enricher, index, results)
        for record in batch:
            if record.customer_id not in customers:
                customers[record.customer_id] = Customer(record.customer_id, empty_state(), model)
        first = len(results.rejected)
        enricher.process([record.event for record in batch], customers, day, results)
        for at, refused in results.rejected[first:]:
            log.dead_letters.append((topic_of(batch[at].event), batch[at].value, refused))
        index.file(record.customer_id for record in batch)
        if report is not None and number % 16 == 0:
            report(sum(results.outcomes.values()), len(log.records))
    if report is not None:
        report(len(log.records), len(log.records))
    _pass_midnight(day_of(end_us), enricher, index, results)
    results.finish()
    held = [customer for _, customer in sorted(customers.items()) if customer.is_known]
    profiles = enricher.profiles(held, [end_us] * len(held))
    return Replayed(results, customers, profiles, log, end_us, time.perf_counter() - started_s)


def write_replay(replayed: Replayed, model: Model, out: Path) -> Document:
    """Write the five files; gives the summary."""
    out.mkdir(parents=True, exist_ok=True)
    results, log = replayed.results, replayed.log
    _write(out / "segment-changes.jsonl", sorted(results.changes, key=_published_at))
    _write(out / "reactivation-triggers.jsonl", sorted(results.triggers, key=_published_at))
    _write(out / "customer-profiles.jsonl", replayed.profiles)
    dead = sorted(log.dead_letters, key=lambda letter: (letter[0], letter[1], letter[2].reason))
    _write(out / "dead-letters.jsonl", [replay_line(topic, refused, value) for topic, value, refused in dead])
    summary = summary_of(replayed, model)
    (out / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    return summary


def summary_of(replayed: Replayed, model: Model) -> Document:
    """The contents of `summary.json`; only `events_per_second` depends on the machine."""
    results = replayed.results
    outcomes = results.outcomes + replayed.log.outcomes
    events = {
        topic: {
            name: outcomes[topic, name]
            for name in ("accepted", "duplicate", "dead_letter", "after_until", "erased")
        }
        for topic in sorted(TOPICS)
    }
    changes: dict[str, dict[str, dict[str, int]]] = {}
    for change in sorted(results.changes, key=_published_at):
        dimension, direction = str(change["dimension"]), str(change["direction"])
        reason = change["reason"]
        assert isinstance(reason, dict)
        by_trigger = changes.setdefault(dimension, {}).setdefault(direction, {})
        by_trigger[reason["trigger"]] = by_trigger.get(reason["trigger"], 0) + 1
    standings: dict[str, dict[str, int]] = {}
    for dimension in DIMENSIONS:
        held = Counter(_standing_of(profile, dimension) for profile in replayed.profiles)
        standings[dimension] = {name: held[name] for name in sorted(held)}
    total = sum(outcomes.values())
    return {
        "events": events,
        "customers": len(replayed.profiles),
        "changes": _sorted(changes),
        "reactivation_triggers": len(results.triggers),
        "reactivation_triggers_dropped": results.triggers_dropped,
        "standings": standings,
        "as_of": format_time(replayed.end_us),
        "model": model_document(model),
        "events_per_second": round(total / replayed.elapsed_s) if replayed.elapsed_s > 0 else 0,
    }


def ordered_log(
    values: Iterator[tuple[Topic, bytes]], model: Model, until_us: int | None = None
) -> ReplayLog:
    """The acceptable records of a log in replay order; `values` may come in any order."""
    log = ReplayLog()
    for topic, value in values:
        event = decode(topic, value)
        if isinstance(event, Rejection):
            log.refuse(topic, value, event)
            continue
        if until_us is not None and event.occurred_at_us > until_us:
            log.outcomes[topic, "after_until"] += 1
            continue
        refused = check_against_model(event, model)
        if refused is not None:
            log.refuse(topic, value, refused)
            continue
        rank = TOPICS.index(topic)
        log.records.append(
            _Dated(event.occurred_at_us, rank, event.customer_id, event.event_id, value, event)
        )
    log.records.sort(key=lambda record: record[:5])
    if until_us is None:
        _refuse_wrong_clocks(log)
    return log


def _refuse_wrong_clocks(log: ReplayLog) -> None:
    kept: list[_Dated] = []
    for record in log.records:
        if kept and record.occurred_at_us > kept[-1].occurred_at_us + LONGEST_GAP_DAYS * DAY_US:
            message = f"more than {LONGEST_GAP_DAYS} days after the record before it; --until would take it"
            log.refuse(
                TOPICS[record.topic_rank], record.value, rejection(FROM_THE_FUTURE, ("occurred_at",), message)
            )
        else:
            kept.append(record)
    log.records = kept


def _batches(records: Sequence[_Dated]) -> Iterator[tuple[int, Sequence[_Dated]]]:
    """Records between two midnights, with the day of the first: at most BATCH_EVENTS at a time."""
    start = 0
    while start < len(records):
        day = day_of(records[start].occurred_at_us)
        end = start + 1
        while (
            end < len(records)
            and end - start < BATCH_EVENTS
            and records[end].occurred_at_us < midnight_us(day + 1)
        ):
            end += 1
        yield day, records[start:end]
        start = end


class _DueIndex:
    """Which customers may change on which midnight."""

    def __init__(self, customers: dict[str, Customer]) -> None:
        self._customers = customers
        self._by_day: dict[int, dict[str, None]] = {}
        self._passed_day = -1

    def file(self, customer_ids: Iterator[str]) -> None:
        for customer_id in customer_ids:
            due_day = self._customers[customer_id].state.due_day
            if due_day is not None:
                self._by_day.setdefault(due_day, {})[customer_id] = None

    def take(self, midnight_day: int) -> list[Customer]:
        """Everyone filed up to this midnight; who is not due after all is left alone by the sweep."""
        if midnight_day <= self._passed_day:
            return []
        self._passed_day = midnight_day
        days = sorted(day for day in self._by_day if day <= midnight_day)
        due = {customer_id: None for day in days for customer_id in self._by_day.pop(day)}
        return [self._customers[customer_id] for customer_id in due]


def _pass_midnight(day: int, enricher: Enricher, index: _DueIndex, results: Results) -> None:
    due = index.take(day)
    enricher.advance(due, day, results)
    index.file(customer.id for customer in due)


def _published_at(document: Document) -> tuple[int, str, int]:
    sequence = document.get("sequence", 0)
    assert isinstance(sequence, int)
    return parse_timestamp(str(document["as_of"])), str(document["customer_id"]), sequence


def _standing_of(profile: Document, dimension: str) -> str:
    standing = profile["standing"]
    assert isinstance(standing, dict)
    return standing[dimension] or "none"


def _sorted(counts: dict[str, dict[str, dict[str, int]]]) -> Document:
    return {
        dimension: {
            direction: dict(sorted(counts[dimension][direction].items()))
            for direction in sorted(counts[dimension])
        }
        for dimension in DIMENSIONS
        if dimension in counts
    }


def _write(path: Path, documents: Sequence[Document] | list[dict[str, str]]) -> None:
    with path.open("wb") as lines:
        for document in documents:
            lines.write(orjson.dumps(document) + b"\n")
