"""The page of an analysis: nothing is loaded from elsewhere, nothing runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from enrichment.scoring.scores import HORIZON_DAYS
from schemas.profiles import DIMENSIONS
from streams.reports.formats import money
from streams.reports.page import body_of
from streams.reports.rendering import render

if TYPE_CHECKING:
    import pandas as pd

    from enrichment.model import Model
    from schemas.documents import Document
    from streams.analysis.replaying import Replayed

ROWS: Final = 20
"""Of each list of customers."""
MONTHS: Final = 12
DIRECTIONS: Final = ("entered", "upgrade", "downgrade", "left")


class Analysed(Protocol):
    """What is shown of an `ebbtide.Analysis`, which says what each part is."""

    @property
    def profiles(self) -> pd.DataFrame:
        """One row a customer."""

    @property
    def changes(self) -> pd.DataFrame:
        """One row a change."""

    @property
    def refused(self) -> pd.DataFrame:
        """One row a row that was not taken."""

    @property
    def outcomes(self) -> dict[tuple[str, str], int]:
        """Records by table and by what became of them."""

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        """By table, which column was taken for which field."""

    @property
    def model(self) -> Model:
        """The value model that decided."""

    @property
    def calibration(self) -> Document | None:
        """How good a fitted model is."""

    @property
    def replayed(self) -> Replayed:
        """The documents behind the frames."""


def page_of(analysis: Analysed) -> str:
    """The whole page; the same analysis gives the same page."""
    profiles, changes = analysis.profiles, analysis.changes
    return render(
        "analysis.html.jinja",
        heading=f"{len(profiles):,} customers as of {analysis.replayed.as_of}",
        model=analysis.model,
        tiles=list(_tiles(analysis)),
        standings={dimension: _standings(profiles, dimension) for dimension in DIMENSIONS},
        directions=DIRECTIONS,
        months=_months(changes),
        downgrades=_downgrades(changes),
        slipping=_slipping(profiles, analysis.model),
        risk_days=analysis.model.lifecycle.window_days or HORIZON_DAYS,
        outcomes=[(of, name, count) for (of, name), count in analysis.outcomes.items()],
        columns=[(of, one, column) for of, own in analysis.columns.items() for one, column in own.items()],
        refused=_refused(analysis.refused),
        calibration=None if analysis.calibration is None else body_of(analysis.calibration),
    )


def _tiles(analysis: Analysed) -> Iterator[tuple[object, str]]:
    profiles, changes = analysis.profiles, analysis.changes
    yield len(profiles), "customers"
    yield money(float(profiles["revenue"].sum())), f"revenue, {analysis.model.base_currency}"
    yield int((changes["direction"] == "downgrade").sum()), "downgrades so far"
    yield int((profiles["lifecycle"] == "at_risk").sum()), "at risk now"
    yield len(analysis.refused), "rows refused"


def _standings(profiles: pd.DataFrame, dimension: str) -> list[dict[str, Any]]:
    """The standings of a dimension, the largest first."""
    everyone = max(len(profiles), 1)
    named = profiles[dimension].astype(object).where(profiles[dimension].notna(), "none")
    rows = [
        {
            "standing": name,
            "customers": len(own),
            "share": len(own) / everyone,
            "revenue": float(own["revenue_365d"].sum()),
            "lifetime_value": float(own["customer_lifetime_value_365d"].sum()),
        }
        for name, own in profiles.groupby(named, sort=False)
    ]
    return sorted(rows, key=lambda row: -row["customers"])


def _months(changes: pd.DataFrame) -> list[dict[str, Any]]:
    """Changes by direction in each of the last months that have any."""
    if changes.empty:
        return []
    months = changes["as_of"].dt.strftime("%Y-%m")
    return [
        {"month": month, **{each: int((own["direction"] == each).sum()) for each in DIRECTIONS}}
        for month, own in changes.groupby(months)
    ][-MONTHS:]


def _downgrades(changes: pd.DataFrame) -> list[dict[str, Any]]:
    """The latest, first of all the last."""
    latest = changes[changes["direction"] == "downgrade"].tail(ROWS).iloc[::-1]
    return [
        {
            "customer_id": row["customer_id"],
            "day": row["as_of"].strftime("%Y-%m-%d"),
            "dimension": row["dimension"],
            "previous": row["previous"],
            "current": row["current"],
            "trigger": row["trigger"],
        }
        for _, row in latest.iterrows()
    ]


def _slipping(profiles: pd.DataFrame, model: Model) -> list[dict[str, Any]]:
    """Those at risk of whom most is at stake, with the risk that the model's lifecycle goes by."""
    at_risk = profiles[profiles["lifecycle"] == "at_risk"]
    own = at_risk.sort_values("value_at_stake", ascending=False, kind="stable").head(ROWS)
    return [
        {
            "customer_id": row["customer_id"],
            "segment": row["segment"],
            "tier": row["tier"],
            "risk": float(row[model.lifecycle.risk]),
            "recency_days": int(row["recency_days"]),
            "revenue_365d": float(row["revenue_365d"]),
            "value_at_stake": float(row["value_at_stake"]),
        }
        for _, row in own.iterrows()
    ]


def _refused(refused: pd.DataFrame) -> list[dict[str, Any]]:
    """An example of each reason, the most frequent first."""
    examples = [
        {
            "reason": reason,
            "rows": len(own),
            "table": own["table"].iloc[0],
            "row": int(own["row"].iloc[0]),
            "message": own["message"].iloc[0],
        }
        for reason, own in refused.groupby("reason", sort=False)
    ]
    return sorted(examples, key=lambda row: -row["rows"])
