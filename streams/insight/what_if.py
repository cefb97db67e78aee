"""`ebbtide whatif`: other sizes of tiers, tried on everyone's profile from a file or from Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from enrichment.days import day_of, midnight_us
from enrichment.deciding.profile import model_document
from enrichment.enricher import Enricher
from enrichment.insight.what_if import what_if as what_if_of
from enrichment.insight.what_if import what_if_document
from enrichment.model import Model
from enrichment.scoring.standing import TIER
from enrichment.tiers.capacity import CapacityError
from enrichment.tiers.population import PopulationBuilder
from streams.console.refusals import Refusals
from streams.console.terminal import visible_document, visible_json
from streams.errors import EbbtideError, UsageError
from streams.insight.profile_lines import read_profiles
from streams.insight.what_if_text import what_if_text
from streams.settings import Settings


def what_if(
    settings: Settings,
    model: Model,
    asked: Mapping[str, str],
    profiles: Path | None,
    as_json: bool,
    refusals: Refusals | None = None,
) -> str:
    """Who would move if tiers had this much room, as text for people or as JSON; nothing is changed.

    Customers are those of `profiles` (JSON Lines, as `ebbtide profiles` and `replay` write them), else those that Redis
    holds. A file does not say when a tier last changed, so that there nobody is held by dwell. Profiles that were
    refused are counted in `refusals`.

    Raises:
        EbbtideError: The file or Redis cannot be read, more was refused than `refusals` allows, or no threshold meets a
            capacity.
        UsageError: Neither `asked` nor the model has a capacity.
    """
    if not asked and not model.tiers.capacities:
        raise UsageError(
            f"model {model.name!r} keeps no capacities to compare with: say some, such as --tier strategic=50"
        )
    tried = _Tried(model)
    refusals = refusals or Refusals("profiles")
    if profiles is None:
        asyncio.run(_read_held(settings, model, tried, refusals))
        refusals.check()
    else:
        for profile in read_profiles(profiles, refusals):
            tried.add(profile, None)
    try:
        document = what_if_document(what_if_of(model, tried.builder.population(), asked))
    except CapacityError as error:
        raise EbbtideError(str(error)) from error
    document = {
        "model": model_document(model),
        "as_of": {"from": tried.earliest, "to": tried.latest},
        "dwell_known": profiles is None,
        "hysteresis": model.hysteresis.model_dump(exclude_none=True),
        **document,
    }
    document["warnings"] = [*tried.other_models(model), *document["warnings"]]
    if as_json:
        return visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return what_if_text(visible_document(document))


class _Tried:
    """Whom the what-if is tried on: what it needs of their profiles, which times they are of, and which models."""

    def __init__(self, model: Model) -> None:
        self.builder = PopulationBuilder(model)
        self.earliest: str | None = None
        self.latest: str | None = None
        self.decided_by_another_model = False
        self._models: set[tuple[str, str]] = set()

    def add(self, profile: Any, tier_age_days: int | None) -> None:
        self.builder.add(profile, tier_age_days)
        as_of, model = profile["as_of"], profile["model"]
        self.earliest = as_of if self.earliest is None else min(self.earliest, as_of)
        self.latest = as_of if self.latest is None else max(self.latest, as_of)
        self._models.add((model["name"], model["version"]))

    def other_models(self, model: Model) -> list[str]:
        """Warnings of other models, by which profiles were made or standings decided."""
        decided = (
            ["the standings of now were decided by another model"] if self.decided_by_another_model else []
        )
        return decided + [
            f"profiles are of model {name} {version}, and the thresholds of {model.name} {model.version}"
            for name, version in sorted(self._models - {(model.name, model.version)})
        ]


async def _read_held(settings: Settings, model: Model, tried: _Tried, refusals: Refusals) -> None:
    """Everyone's profile as Redis has them, each as of the moment at which they were read."""
    from streams.insight.profiles import PAGE_CUSTOMERS
    from streams.state.held_state import held_partitions

    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    async with held_partitions(settings, model) as partitions:
        for held in partitions:
            tried.decided_by_another_model |= held.model_fingerprint != model.fingerprint
            last_midnight_us = midnight_us(held.checkpoint.midnight_day)
            ids = await held.store.all_ids()
            for start in range(0, len(ids), PAGE_CUSTOMERS):
                known = await held.known(ids[start : start + PAGE_CUSTOMERS], refusals)
                customers = list(known.values())
                times_us = [customer.as_of_us(last_midnight_us) for customer in customers]
                profiles = enricher.profiles(customers, times_us)
                for customer, time_us, profile in zip(customers, times_us, profiles, strict=True):
                    tried.add(profile, day_of(time_us) - customer.decision.changed_days[TIER])
