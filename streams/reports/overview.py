"""What a log did to its customers, gathered from the documents that came of it: the contents of the overview page.

Documents are looked at one by one, so that they may come from files of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from enrichment.days import day_of, format_day
from enrichment.model import Model
from enrichment.scoring.scores import HORIZON_DAYS
from schemas.changes import LEVELS
from schemas.profiles import DIMENSIONS, Dimension
from schemas.timestamps import parse_timestamp
from schemas.triggers import GROUPS
from streams.replay.fared import Fared
from streams.reports.formats import number, percent
from streams.reports.metric_words import METRIC_WORDS
from streams.reports.sankey import Flow

Row = dict[str, Any]

NONE: Final = "none"
"""In place of a standing, for who has none."""
FLOW_DAYS: Final = 90
SLIP_DAYS: Final = 7
ROWS: Final = 20
"""Of each list of customers."""
WARNED: Final = ("at_risk", "lapsed")


@dataclass(slots=True)
class Overview:
    """What is told of the customers as of `end_us`; money is in base units of `model`.

    `standings` are rows by dimension, from the top; `flows` between segments of the last FLOW_DAYS days; `slipped` who
    was downgraded in the last SLIP_DAYS days and still stands there, those first of whom most is at stake; `at_stake`
    the customers at risk or lapsed of whom most is; `reactivations` rows by group, of those that fell due in the last
    FLOW_DAYS days.
    """

    model: Model
    end_us: int
    customers: int = 0
    standings: dict[str, list[Row]] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    slipped: list[Row] = field(default_factory=list)
    slipped_in_all: int = 0
    at_stake: list[Row] = field(default_factory=list)
    at_stake_in_all: float = 0.0
    warned: int = 0
    reactivations: list[Row] = field(default_factory=list)

    @property
    def risk_days(self) -> int:
        """How far ahead the risk looks that warnings go by."""
        return self.model.lifecycle.window_days or HORIZON_DAYS

    @property
    def end_day(self) -> str:
        """The last day."""
        return format_day(day_of(self.end_us))


def overview_of(
    changes: Iterable[Row], profiles: Iterable[Row], fared: Sequence[Fared], model: Model, end_us: int
) -> Overview:
    """Gather an overview; the changes of a customer must come in their order.

    1. From the changes: where everyone stood before, and who slipped lately.
    2. From the profiles: where everyone stands, and what they bring.
    """
    told = Overview(model, end_us)
    end_day = day_of(end_us)
    before = _Before(end_day)
    for change in changes:  # 1
        before.note(change)
    slips, at_stake, stakes = list[Row](), list[Row](), list[float]()
    standings = {dimension: _Standings(dimension) for dimension in DIMENSIONS}
    flows: dict[tuple[str, str], list[float]] = {}
    for profile in profiles:  # 2
        told.customers += 1
        for dimension in DIMENSIONS:
            standings[dimension].note(profile)
        own_id, standing = profile["customer_id"], profile["standing"]
        moved = before.segment_of(own_id, standing["segment"]) or NONE, standing["segment"] or NONE
        flows.setdefault(moved, []).append(_amount(profile["traits"]["customer_lifetime_value_365d"]))
        if standing["lifecycle"] in WARNED:
            told.warned += 1
            stakes.append(_amount(profile["traits"]["value_at_stake"]))
            at_stake.append(_warned_row(profile, model))
        slip = before.slips.get(own_id)
        if slip is not None and standing[slip["dimension"]] == slip["current"]:
            slips.append(_slip_row(slip, profile, model))
    told.standings = {dimension: list(of.rows()) for dimension, of in standings.items()}
    told.flows = [Flow(*moved, len(money), math.fsum(money)) for moved, money in flows.items()]
    told.slipped, told.slipped_in_all = _most_at_stake(slips), len(slips)
    told.at_stake, told.at_stake_in_all = _most_at_stake(at_stake), math.fsum(stakes)
    told.reactivations = _reactivations([each for each in fared if each.day > end_day - FLOW_DAYS])
    return told


class _Before:
    """Each customer's segment at the beginning of the last FLOW_DAYS days, and their latest slip of the last week."""

    def __init__(self, end_day: int) -> None:
        self.slips: dict[str, Row] = {}
        self._segment: dict[str, str | None] = {}
        self._start_day, self._slip_day = end_day - FLOW_DAYS, end_day - SLIP_DAYS

    def note(self, change: Row) -> None:
        own_id, dimension = change["customer_id"], change["dimension"]
        day = day_of(parse_timestamp(change["as_of"]))
        if dimension == "segment":
            if day <= self._start_day:
                self._segment[own_id] = change["current"]
            else:
                self._segment.setdefault(own_id, change["previous"])
        if day > self._slip_day and change["direction"] == "downgrade" and _is_slip(change):
            self.slips[own_id] = change

    def segment_of(self, customer_id: str, current: str | None) -> str | None:
        """The segment then; that of now, where no change tells otherwise."""
        return self._segment.get(customer_id, current)


def _is_slip(change: Row) -> bool:
    return change["dimension"] == "segment" or (
        change["dimension"] == "lifecycle" and change["current"] in WARNED
    )


class _Standings:
    """What the customers of each standing of a dimension bring."""

    def __init__(self, dimension: Dimension) -> None:
        self._dimension = dimension
        self._money: dict[str, list[tuple[float, ...]]] = {level: [] for level in (*LEVELS[dimension], NONE)}

    def note(self, profile: Row) -> None:
        aggregates, traits = profile["aggregates"], profile["traits"]
        self._money[profile["standing"][self._dimension] or NONE].append(
            (
                _amount(aggregates["revenue_90d"]),
                _amount(aggregates["revenue_365d"]),
                _amount(traits["customer_lifetime_value_365d"]),
                _amount(traits["value_at_stake"]),
            )
        )

    def rows(self) -> Iterator[Row]:
        """Of each standing that anyone has, from the top."""
        everyone = sum(len(own) for own in self._money.values())
        revenue = math.fsum(money[1] for own in self._money.values() for money in own)
        for level, own in self._money.items():
            if own:
                sums = [math.fsum(column) for column in zip(*own, strict=True)]
                yield {
                    "standing": level,
                    "customers": len(own),
                    "customers_share": len(own) / everyone,
                    "revenue_90d": sums[0],
                    "revenue_365d": sums[1],
                    "revenue_share": sums[1] / revenue if revenue > 0 else None,
                    "lifetime_value": sums[2],
                    "value_at_stake": sums[3],
                }


def _warned_row(profile: Row, model: Model) -> Row:
    traits, standing = profile["traits"], profile["standing"]
    return {
        "customer_id": profile["customer_id"],
        **standing,
        "risk": traits[model.lifecycle.risk],
        "recency_days": traits["recency_days"],
        "revenue_365d": _amount(profile["aggregates"]["revenue_365d"]),
        "lifetime_value": _amount(traits["customer_lifetime_value_365d"]),
        "value_at_stake": _amount(traits["value_at_stake"]),
    }


def _slip_row(change: Row, profile: Row, model: Model) -> Row:
    return {
        "customer_id": change["customer_id"],
        "day": change["as_of"][:10],
        "previous": change["previous"],
        "current": change["current"],
        "why": why(change, model),
        "value_at_stake": _amount(profile["traits"]["value_at_stake"]),
    }


def why(change: Row, model: Model) -> str:
    """Why a customer slipped: the silence and its risk, and what moved value down most since the last change."""
    told, traits = [], change["traits"]
    if change["reason"]["trigger"] == "time" and traits["recency_days"] is not None:
        told.append(f"no order for {traits['recency_days']} days")
    risk = traits[model.lifecycle.risk]
    if change["dimension"] == "lifecycle" and risk is not None:
        days = model.lifecycle.window_days or HORIZON_DAYS
        told.append(f"{percent(risk, 0)} risk of none in the next {days}")
    down = [
        driver
        for driver in change["reason"]["drivers"]
        if driver["effect_on_value"] < 0
        and driver["metric"] in METRIC_WORDS
        and driver["metric"] != "recency_days"
    ]
    for driver in down[:1]:
        before, after = (
            "none" if driver[at] is None else number(float(driver[at])) for at in ("before", "after")
        )
        told.append(f"{METRIC_WORDS[driver['metric']]} {before} → {after}")
    return "; ".join(told) or f"by {change['reason']['trigger']}"


def _most_at_stake(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-row["value_at_stake"], row["customer_id"]))[:ROWS]


def _reactivations(fared: Sequence[Fared]) -> list[Row]:
    """One row per group that has any: how many, of those that can be seen whole how many bought, and for how much."""
    rows = []
    for group in GROUPS:
        own = [each for each in fared if each.group == group]
        seen = [each for each in own if each.is_seen_whole]
        if own:
            rows.append(
                {
                    "group": group,
                    "due": len(own),
                    "value_at_stake": math.fsum(each.value_at_stake for each in own),
                    "seen": len(seen),
                    "bought": sum(each.bought for each in seen),
                    "bought_share": sum(each.bought for each in seen) / len(seen) if seen else None,
                    "revenue_each": math.fsum(each.revenue for each in seen) / len(seen) if seen else None,
                }
            )
    return rows


def _amount(value: str | None) -> float:
    return 0.0 if value is None else float(value)
