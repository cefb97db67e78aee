"""`ebbtide outcomes`: what re-activations brought, from their topic and from what the worker keeps of each customer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson

from enrichment.customer.customer import Customer
from enrichment.days import day_of, format_day
from enrichment.insight.outcomes import Effect, Estimate, Followed, GroupOutcome, effect_of
from enrichment.model import Model
from schemas.documents import Document, TriggerDocument
from schemas.timestamps import parse_timestamp
from streams.console.refusals import Refusals
from streams.console.tables import table_lines
from streams.errors import EbbtideError
from streams.kafka.log_reader import read_to_end
from streams.settings import Settings
from streams.state.held_state import HeldPartition, held_partitions

TOPIC: Final = "reactivation-triggers"
DEFAULT_DAYS: Final = 30
CUSTOMERS_AT_ONCE: Final = 500
ALL: Final = "all"


class Outcomes(NamedTuple):
    """Re-activations of customers whose days are over, and why others are left out."""

    within_days: int
    since_day: int
    until_day: int
    """None fell due on this day or later."""
    followed: list[Followed]
    too_recent: int
    unknown: int
    again: int
    """Of customers who had had one before: only the first counts, since groups are of customers."""


def told_outcomes(settings: Settings, within_days: int, since_day: int | None, *, as_json: bool) -> str:
    """Treatment against control, in all and by segment, as text for people or as JSON.

    Only re-activations of `since_day` and later; None: all that the topic still holds.

    Raises:
        EbbtideError: Kafka or Redis does not answer, Redis holds nothing, or no re-activation is old enough.
    """
    model = settings.load_model()
    found = asyncio.run(read_outcomes(settings, model, within_days, since_day))
    if not found.followed:
        raise EbbtideError(
            f"no re-activation to look at: {found.too_recent:,} fell due less than {within_days} days ago, of "
            f"{found.unknown:,} the customer is no longer known"
        )
    document = document_of(found, model)
    if as_json:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    return text_of(document)


async def read_outcomes(
    settings: Settings, model: Model, within_days: int, since_day: int | None
) -> Outcomes:
    """Follow the customers of all re-activations; raises `EbbtideError` as above."""
    triggers: dict[int, dict[str, TriggerDocument]] = {}
    async for record in read_to_end(settings, [TOPIC]):
        if record.value is not None:
            document: TriggerDocument = orjson.loads(record.value)
            # One that was published twice, as `at_least_once` may, is one.
            triggers.setdefault(record.partition, {}).setdefault(document["trigger_id"], document)
    found = Outcomes(within_days, since_day or 0, 0, [], 0, 0, 0)
    async with held_partitions(settings, model) as held:
        for partition in held:
            own = triggers.get(partition.partition, {}).values()
            found = await _follow(partition, own, found)
    return found


async def _follow(held: HeldPartition, triggers: Iterable[TriggerDocument], found: Outcomes) -> Outcomes:
    """The outcomes with those of one partition; their days must be over by its last midnight."""
    until_day = held.checkpoint.midnight_day - found.within_days + 1
    first: dict[str, TriggerDocument] = {}
    too_recent = again = unknown = 0
    for trigger in triggers:
        day = day_of_trigger(trigger)
        if day < found.since_day:
            continue
        if day >= until_day:
            too_recent += 1
        elif trigger["customer_id"] in first:
            again += 1
        else:
            first[trigger["customer_id"]] = trigger
    followed = list(found.followed)
    for part in _parts(first, CUSTOMERS_AT_ONCE):
        known = await held.known(part, Refusals("states"))
        unknown += len(part) - len(known)
        followed += [
            follow(customer, first[customer_id], found.within_days) for customer_id, customer in known.items()
        ]
    return found._replace(
        until_day=max(found.until_day, until_day),
        followed=followed,
        too_recent=found.too_recent + too_recent,
        unknown=found.unknown + unknown,
        again=found.again + again,
    )


def day_of_trigger(trigger: TriggerDocument) -> int:
    """The day whose midnight the re-activation fell due on."""
    return day_of(parse_timestamp(trigger["as_of"]))


def follow(customer: Customer, trigger: TriggerDocument, within_days: int) -> Followed:
    """What a customer did in the days that begin with a re-activation's midnight."""
    first_day = day_of_trigger(trigger)
    days = [
        bucket
        for bucket in customer.snapshot().money.buckets
        if first_day <= bucket.day < first_day + within_days
    ]
    return Followed(
        trigger["group"],
        trigger["segment"],
        any(bucket.orders > 0 for bucket in days),
        sum(bucket.margin_micros for bucket in days) / 1e6,
    )


def _parts(names: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(names)
    while part := list(islice(rest, size)):
        yield part


def document_of(found: Outcomes, model: Model) -> Document:
    """All that is told: money in base units, shares from 0 to 1, each figure with its 95% interval."""
    by_segment: dict[str, list[Followed]] = {ALL: found.followed}
    for one in found.followed:
        by_segment.setdefault(one.segment, []).append(one)
    return {
        "within_days": found.within_days,
        "since": format_day(found.since_day) if found.since_day else None,
        "before": format_day(found.until_day),
        "base_currency": model.base_currency,
        "customers": len(found.followed),
        "left_out": {
            "too_recent": found.too_recent,
            "not_the_customers_first": found.again,
            "no_longer_known": found.unknown,
        },
        "segments": [
            {"segment": segment, **_effect(effect_of(own), own)} for segment, own in by_segment.items()
        ],
    }


def _effect(effect: Effect | None, followed: list[Followed]) -> Document:
    if effect is None:
        sizes = {
            group: {"customers": sum(one.group == group for one in followed)}
            for group in ("treatment", "control")
        }
        return {**sizes, "effect": None}
    return {
        "treatment": _group(effect.treatment),
        "control": _group(effect.control),
        "effect": {
            "returns": _estimate(effect.returns),
            "margin_per_customer": _estimate(effect.margin),
            "margin": _estimate(effect.margin_of_all),
            "is_clear": {"returns": effect.returns.is_clear, "margin": effect.margin.is_clear},
        },
    }


def _group(group: GroupOutcome) -> Document:
    return {
        "customers": group.customers,
        "returned": group.returned,
        "returns": _estimate(group.returns),
        "margin_per_customer": _estimate(group.margin),
    }


def _estimate(estimate: Estimate) -> Document:
    return {name: round(value, 6) for name, value in estimate._asdict().items()}


def text_of(document: Document) -> str:
    """The document for people."""
    left_out: dict[str, int] = document["left_out"]
    since = f" since {document['since']}" if document["since"] else ""
    lines = [
        f"Re-activations that fell due{since}{' and' if since else ''} before {document['before']}, and the "
        f"{document['within_days']} days after each: {document['customers']:,} customers",
        f"Left out: {left_out['too_recent']:,} too recent, {left_out['not_the_customers_first']:,} of customers "
        f"who had one before, {left_out['no_longer_known']:,} of customers who are no longer known",
        "",
    ]
    currency = document["base_currency"]
    of_all = f"margin of all, {currency}"
    head = ("segment", "treatment", "came back", "control", "came back", "more by writing", of_all)
    rows: list[tuple[str, ...]] = [head]
    for one in document["segments"]:
        treatment, control, effect = one["treatment"], one["control"], one["effect"]
        sizes = f"{treatment['customers']:,}", f"{control['customers']:,}"
        if effect is None:
            rows.append((one["segment"], sizes[0], "", sizes[1], "", "too few", ""))
            continue
        rows.append(
            (
                one["segment"],
                sizes[0],
                f"{treatment['returns']['value']:.1%}",
                sizes[1],
                f"{control['returns']['value']:.1%}",
                _span(effect["returns"], "{:+.1%}"),
                _span(effect["margin"], "{:+,.0f}"),
            )
        )
    lines += table_lines(rows)
    lines += [
        "",
        "In brackets: where the true figure lies with 95% confidence.",
        *_verdict(document["segments"][0]),
    ]
    return "\n".join(lines)


def _span(estimate: dict[str, Any], form: str) -> str:
    value, low, high = (form.format(estimate[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _verdict(of_all: dict[str, Any]) -> list[str]:
    effect = of_all["effect"]
    if effect is None:
        return [
            "Too few customers to compare: `reactivation.control_share` of the model makes the control group."
        ]
    if not effect["is_clear"]["returns"]:
        return ["Whether writing brings anybody back cannot be told yet: the interval holds zero."]
    more = "more" if effect["returns"]["value"] > 0 else "fewer"
    return [f"Writing brings back {more} than come by themselves."]
