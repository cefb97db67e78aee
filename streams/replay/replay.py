"""Replay: a log of events through the same core as live, with no broker and no Redis.

The same set of events and the same model give the same output, however they were ordered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enrichment.customer.customer import Customer
from enrichment.customer.validation import Horizons
from enrichment.days import day_of, midnight_us
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from enrichment.model import Model
from schemas.documents import ProfileDocument
from schemas.topics import InputTopic
from streams.console.progress import Report
from streams.replay.log import Dated, Line, Refused, ReplayLog, ordered_log

NAMESPACE = "replay"
BATCH_EVENTS = 10_000


@dataclass(slots=True)
class Replayed:
    """What a replay makes. `end_us` is the time that every profile is as of; they are sorted by customer.

    `results` have none of the profiles in between.
    """

    results: Results
    customers: dict[str, Customer]
    profiles: list[ProfileDocument]
    log: ReplayLog
    end_us: int


def replay(
    values: Iterator[tuple[InputTopic, bytes]],
    model: Model,
    until_us: int | None = None,
    horizons: Horizons | None = None,
    report: Report | None = None,
) -> Replayed:
    """Take records in the order of `occurred_at`, topic, customer, event id and bytes; midnights in between.

    `values` may come in any order. Records after `until_us` are ignored and counted.
    """
    log = ordered_log((Line(topic, value) for topic, value in values), model, until_us)
    return replay_ordered(log, model, log.end_us(until_us), horizons, report)


def replay_ordered(
    log: ReplayLog, model: Model, end_us: int, horizons: Horizons | None, report: Report | None
) -> Replayed:
    """Take the records of a log, or those of some of its customers: what becomes of one depends on no other."""
    enricher = Enricher(model, NAMESPACE, horizons)
    results, customers = Results(model, keeps_profiles=False), dict[str, Customer]()
    index = _DueIndex(customers)
    for number, (day, batch) in enumerate(_batches(log.records)):
        _pass_midnight(day, enricher, index, results)
        for record in batch:
            if record.customer_id not in customers:
                customers[record.customer_id] = Customer.unknown(record.customer_id, model)
        first = len(results.rejected)
        enricher.process([record.event for record in batch], customers, day, results)
        for at, refused in results.rejected[first:]:
            log.dead_letters.append(Refused(batch[at].line, refused))
        index.file(record.customer_id for record in batch)
        if report is not None and number % 16 == 0:
            report(sum(results.outcomes.values()), len(log.records))
    if report is not None:
        report(len(log.records), len(log.records))
    _pass_midnight(day_of(end_us), enricher, index, results)
    held = [customer for _, customer in sorted(customers.items()) if customer.is_known]
    profiles = enricher.profiles(held, [end_us] * len(held))
    return Replayed(results, customers, profiles, log, end_us)


def _batches(records: Sequence[Dated]) -> Iterator[tuple[int, Sequence[Dated]]]:
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
