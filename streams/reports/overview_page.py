"""The overview as one HTML page: nothing is loaded from elsewhere, nothing runs in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from enrichment.model import Model
from schemas.changes import LEVELS
from streams.replay.fared import WITHIN_DAYS, Fared
from streams.replay.parts import CHANGES, PROFILES
from streams.reports.formats import money
from streams.reports.overview import FLOW_DAYS, NONE, SLIP_DAYS, Overview, Row, overview_of
from streams.reports.rendering import render
from streams.reports.sankey import sankey


def write_overview(
    path: Path,
    changes: Iterable[Row],
    profiles: Iterable[Row],
    fared: Sequence[Fared],
    model: Model,
    end_us: int,
) -> None:
    """Write the page of what came of a log; `path` is replaced. Raises `OSError` where it cannot be written."""
    told = overview_of(changes, profiles, fared, model, end_us)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page_of(told), encoding="utf-8")


def write_overview_of_files(
    path: Path, folder: Path, fared: Sequence[Fared], model: Model, end_us: int
) -> None:
    """The same, of the files that a replay has written into a folder."""
    write_overview(path, _lines(folder / CHANGES), _lines(folder / PROFILES), fared, model, end_us)


def page_of(told: Overview) -> str:
    """The whole page; the same overview gives the same page."""
    moves = sorted(
        (flow for flow in told.flows if flow.previous != flow.current),
        key=lambda flow: (-flow.customers, flow.previous, flow.current),
    )
    return render(
        "overview.html.jinja",
        heading=f"{told.customers:,} customers on {told.end_day}",
        told=told,
        currency=told.model.base_currency,
        tiles=list(_tiles(told)),
        moves=[flow._asdict() for flow in moves],
        diagram=Markup(_diagram(told)) if told.flows else None,
        flow_days=FLOW_DAYS,
        slip_days=SLIP_DAYS,
        within_days=WITHIN_DAYS,
    )


def _diagram(told: Overview) -> str:
    return sankey(
        told.flows,
        (*LEVELS["segment"], NONE),
        f"Customers by segment {FLOW_DAYS} days before and now; the table below has the numbers",
    )


def _tiles(told: Overview) -> Iterator[tuple[object, str]]:
    """What a reader in a hurry looks for."""
    currency, segments = told.model.base_currency, told.standings["segment"]
    yield money(sum(row["revenue_90d"] for row in segments)), f"revenue of the last 90 days, {currency}"
    yield (
        money(sum(row["lifetime_value"] for row in segments)),
        f"margin expected of the next 365, {currency}",
    )
    yield told.warned, "customers at risk or lapsed"
    yield money(told.at_stake_in_all), f"at stake with them, {currency}"
    yield told.slipped_in_all, f"slipped in the last {SLIP_DAYS} days"
    yield sum(row["due"] for row in told.reactivations), f"re-activations due in the last {FLOW_DAYS} days"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)
