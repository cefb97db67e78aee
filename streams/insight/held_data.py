"""`ebbtide export`: all that Redis holds of one customer, for someone who asks what is known of them.

The state is walked field by field, so that nothing that is stored can be left out. Times, days and amounts are written
as people read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec
import orjson

from enrichment.customer.customer import Customer
from enrichment.customer.decision import Baseline, Decision
from enrichment.customer.validation import Seen
from enrichment.days import format_day, format_time, midnight_us
from enrichment.enricher import Enricher
from enrichment.model import METRICS, Model
from enrichment.scoring.scores import SCORES
from enrichment.scoring.standing import STANDINGS
from schemas.amounts import MICROS_DIGITS
from schemas.documents import Document
from schemas.profiles import DIMENSIONS
from schemas.topics import DEAD_LETTERS
from streams.console.terminal import visible_json
from streams.errors import EbbtideError
from streams.kafka.topics import TOPICS
from streams.settings import Settings
from streams.state.held_state import held_partitions

_OF_DAY: Final = ("day", "ordered_on")
"""Fields that are days; so are those whose names end in `_day`, and the values of `last_day_by_kind`."""
_LAST_DAY: Final = (date.max - date(1970, 1, 1)).days


def export_customer(settings: Settings, customer_id: str) -> str:
    """All that is held of a customer, as JSON: in each partition that knows them, their profile and their state.

    Raises:
        EbbtideError: Redis does not answer, or holds nothing of the group or of this customer.
    """
    document = asyncio.run(_held(settings, customer_id, settings.load_model()))
    return visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())


async def _held(settings: Settings, customer_id: str, model: Model) -> Document:
    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    partitions: list[Document] = []
    async with held_partitions(settings, model) as held:
        for one in held:
            customer = (await one.store.load([customer_id]))[customer_id]
            if customer.is_known or customer.decision.erased_up_to_us is not None:
                last_midnight_us = midnight_us(one.checkpoint.midnight_day)
                partitions.append(
                    {"partition": one.partition, **_all_of(customer, last_midnight_us, enricher)}
                )
    if not partitions:
        raise EbbtideError(f"no customer {customer_id!r} in Redis at {settings.redis_address}")
    return {
        "customer_id": customer_id,
        "base_currency": model.base_currency,
        "partitions": partitions,
        "elsewhere": {
            "by_key": [settings.topic(topic.name) for topic in TOPICS if topic.name != DEAD_LETTERS],
            "by_content": [settings.topic(DEAD_LETTERS)],
        },
    }


def _all_of(customer: Customer, last_midnight_us: int, enricher: Enricher) -> Document:
    profile = None
    if customer.is_known:
        (profile,) = enricher.profiles([customer], [customer.as_of_us(last_midnight_us)])
    return {"profile": profile, "state": readable(customer.state)}


def readable(value: Any) -> Any:
    """A part of a state as JSON has it: an object for whatever has fields."""
    if isinstance(value, Decision):
        return _decision(value)
    if isinstance(value, Baseline):
        return _baseline(value)
    if isinstance(value, Seen):
        return {
            "newest": _time(value.newest_us),
            "time_by_digest": {digest.hex(): _time(at) for digest, at in value.time_us_by_digest.items()},
        }
    if isinstance(value, msgspec.Struct):
        return _fields({name: getattr(value, name) for name in value.__struct_fields__})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _fields(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): readable(one) for key, one in value.items()}
    return [readable(one) for one in value] if isinstance(value, (list, tuple)) else value


def _fields(fields: Mapping[str, Any]) -> Document:
    return dict(_field(name, value) for name, value in fields.items())


def _field(name: str, value: Any) -> tuple[str, Any]:
    """A field by the end of its name: `_us` is a time, `_day` a day, `_micros` an amount."""
    if name == "last_day_by_kind":
        return name, {kind: _day(day) for kind, day in value.items()}
    if name in _OF_DAY or name.endswith("_day"):
        return name, _day(value)
    for end, written in _WRITTEN.items():
        if name.endswith(end):
            return name.removesuffix(end), written(value)
    return name, readable(value)


def _time(time_us: int | None) -> str | None:
    """None also for what is before or beyond all dates, which stands for always and never."""
    return None if time_us is None or not 0 <= time_us < midnight_us(_LAST_DAY) else format_time(time_us)


def _day(day: int | None) -> str | None:
    """None also for 0 and less, which stand for no day, and for what is beyond all dates, which stands for never."""
    return None if day is None or not 0 < day <= _LAST_DAY else format_day(day)


def _amount(micros: int) -> str:
    return f"{Decimal(micros).scaleb(-MICROS_DIGITS).normalize():f}"


_WRITTEN: Final[Mapping[str, Callable[[Any], Any]]] = {"_us": _time, "_micros": _amount}


def _decision(decision: Decision) -> Document:
    fields = {name: getattr(decision, name) for name in decision.__struct_fields__}
    standing, changed_days = fields.pop("standing"), fields.pop("changed_days")
    return {
        **_fields(fields),
        "standing": None
        if standing is None
        else {
            dimension: names[rank]
            for dimension, names, rank in zip(DIMENSIONS, STANDINGS, standing, strict=True)
        },
        "changed_on": {dimension: _day(day) for dimension, day in zip(DIMENSIONS, changed_days, strict=True)},
    }


def _baseline(baseline: Baseline) -> Document:
    return {
        "metrics": dict(zip(METRICS, baseline.metrics, strict=True)),
        "contributions": dict(zip(METRICS, baseline.contributions, strict=True)),
        "scores": dict(zip(SCORES, baseline.scores, strict=True)),
    }
