"""`ebbtide whatif`: other sizes of tiers, tried on everyone's profile from a file or from Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from enrichment.calibration.capacity import CapacityError
from enrichment.customer import Customer
from enrichment.days import day_of, midnight_us
from enrichment.enricher import Enricher
from enrichment.model import Model
from enrichment.profile import model_document
from enrichment.roster import roster_of
from enrichment.standing import TIER
from enrichment.what_if import what_if as tried
from enrichment.what_if import what_if_document
from schemas.profiles import CustomerProfile
from streams.errors import EbbtideError, UsageError
from streams.held_state import held_partitions
from streams.profiles import PAGE_CUSTOMERS
from streams.replay import read_lines
from streams.settings import Settings
from streams.what_if_text import what_if_text

Profile = dict[str, Any]
Aged = tuple[Profile, int | None]
"""A profile, and the UTC days since its tier last changed, where they are known."""


def what_if(
    settings: Settings, model: Model, asked: Mapping[str, str], profiles: Path | None, as_json: bool
) -> str:
    """Who would move if tiers had this much room, as text for people or as JSON; nothing is changed.

    Customers are those of `profiles` (JSON Lines, as `ebbtide profiles` and `replay` write them), else those that Redis
    holds. A file does not say when a tier last changed, so that there nobody is held by dwell.

    Raises:
        EbbtideError: The file or Redis cannot be read, or no threshold meets a capacity.
        UsageError: Neither `asked` nor the model has a capacity.
    """
    if not asked and not model.tiers.capacities:
        raise UsageError(
            f"model {model.name!r} keeps no capacities to compare with: say some, such as --tier strategic=50"
        )
    aged = asyncio.run(_held(settings, model)) if profiles is None else [*_read(profiles)]
    try:
        document = what_if_document(tried(model, roster_of(aged), asked))
    except CapacityError as error:
        raise EbbtideError(str(error)) from error
    document = {
        "model": model_document(model),
        "as_of": _span([profile["as_of"] for profile, _ in aged]),
        "dwell_known": profiles is None,
        "hysteresis": model.hysteresis.model_dump(),
        **document,
    }
    document["warnings"] = [*_other_models(aged, model), *document["warnings"]]
    if as_json:
        return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
    return what_if_text(document)


def _read(path: Path) -> Iterator[Aged]:
    """The profiles of a file, checked line by line."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            CustomerProfile.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole line"
            raise EbbtideError(f"{path}, line {number}: no profile: {where}: {first['msg']}") from None
        yield orjson.loads(line), None


async def _held(settings: Settings, model: Model) -> list[Aged]:
    """Everyone's profile as Redis has them, each as of the moment at which they were read."""
    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    aged: list[Aged] = []
    async with held_partitions(settings, model) as partitions:
        for held in partitions:
            last_midnight_us = midnight_us(held.mark.midnight_day)
            ids = await held.store.all_ids()
            for start in range(0, len(ids), PAGE_CUSTOMERS):
                loaded = await held.store.load(ids[start : start + PAGE_CUSTOMERS])
                aged += _aged([c for c in loaded.values() if c.is_known], last_midnight_us, enricher)
    return aged


def _aged(customers: list[Customer], last_midnight_us: int, enricher: Enricher) -> Iterator[Aged]:
    times_us = [customer.as_of_us(last_midnight_us) for customer in customers]
    documents: list[Any] = enricher.profiles(customers, times_us)
    for customer, time_us, document in zip(customers, times_us, documents, strict=True):
        yield document, day_of(time_us) - customer.decision.changed_days[TIER]


def _span(times: list[str]) -> dict[str, str | None]:
    """The earliest and the latest time that a profile is as of."""
    return {"from": min(times, default=None), "to": max(times, default=None)}


def _other_models(aged: list[Aged], model: Model) -> list[str]:
    """A warning where profiles were made by a model of another name or version."""
    others = {(p["model"]["name"], p["model"]["version"]) for p, _ in aged} - {(model.name, model.version)}
    return [
        f"profiles are of model {name} {version}, and the thresholds of {model.name} {model.version}"
        for name, version in sorted(others)
    ]
