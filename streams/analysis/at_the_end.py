"""Customers as they stand at the end of a log, without what they went through: seconds where a replay takes minutes."""

from __future__ import annotations

from enrichment.customer.customer import Customer
from enrichment.customer.validation import Horizons
from enrichment.days import day_of, format_time
from enrichment.deciding.results import Results
from enrichment.enricher import Enricher
from enrichment.model import Model
from streams.analysis.replaying import Replayed, refused_records
from streams.replay.log import Refused, ReplayLog
from streams.replay.parts import in_order
from streams.replay.replay import NAMESPACE

_ORDER = {"consents": 0, "purchases": 1, "engagements": 2}
"""That of a first load: what nobody allowed is not kept."""


def standing_at_the_end(
    log: ReplayLog, model: Model, until_us: int | None, horizons: Horizons | None
) -> Replayed:
    """Everyone's profile at the end, by the plain rules, as a worker has them after a first load.

    Each customer has one change per dimension, `entered`; there are no re-activations.
    """
    end_us = log.end_us(until_us)
    day = day_of(end_us)
    enricher, results = Enricher(model, NAMESPACE, horizons), Results(model, keeps_profiles=False)
    records = sorted(log.records, key=lambda record: (_ORDER[record.topic], record[:5]))
    customers: dict[str, Customer] = {}
    for record in records:
        if record.customer_id not in customers:
            customers[record.customer_id] = Customer.unknown(record.customer_id, model)
    enricher.load([record.event for record in records], customers, day, results)
    for at, why in results.rejected:
        log.dead_letters.append(Refused(records[at].line, why))
    held = [customer for _, customer in sorted(customers.items()) if customer.is_known]
    enricher.enter(held, day, results)
    return Replayed(
        [document for _, document in in_order(results.changes)],
        [],
        enricher.profiles(held, [end_us] * len(held)),
        refused_records(log),
        log.outcomes + results.outcomes,
        format_time(end_us),
        model,
    )
