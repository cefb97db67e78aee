"""The page of an analysis: nothing is loaded from elsewhere, nothing runs in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final, Protocol

from schemas.profiles import DIMENSIONS
from streams.reports.page import page_of as calibration_page
from streams.reports.parts import STYLE, Markup, money, paragraph, percent, section, table, text, title, words

if TYPE_CHECKING:
    import pandas as pd

    from ebbtide.replaying import Replayed
    from enrichment.model import Model
    from schemas.documents import Document

ROWS: Final = 20
"""Of each list of customers."""
MONTHS: Final = 12


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
    heading = f"{len(analysis.profiles):,} customers as of {analysis.replayed.as_of}"
    model = analysis.model
    lead = f"Value model {model.name} {model.version}; amounts in {model.base_currency}; times in UTC."
    parts = list(_sections(analysis))
    links = "".join(f'<a href="#{anchor}">{text(title(anchor))}</a>' for anchor, _ in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(heading)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(heading)}</h1><p class="lead">{text(lead)}</p>{_tiles(analysis)}<nav>{links}</nav>'
        f"{''.join(part for _, part in parts)}</main></body></html>\n"
    )


def _sections(analysis: Analysed) -> Iterator[tuple[str, Markup]]:
    yield "standings", section("Where customers stand", *_standings(analysis.profiles), anchor="standings")
    yield "changes", section("Who moved", *_changes(analysis.changes), anchor="changes")
    yield "slipping", section("Who is slipping", _slipping(analysis.profiles), anchor="slipping")
    yield "rows", section("What was taken of the tables", *_rows(analysis), anchor="rows")
    if analysis.calibration is not None:
        yield "model", section("The fitted model", *_model(analysis.calibration), anchor="model")


def _tiles(analysis: Analysed) -> Markup:
    profiles, changes = analysis.profiles, analysis.changes
    told: list[tuple[object, str]] = [
        (len(profiles), "customers"),
        (money(float(profiles["revenue"].sum())), f"revenue, {analysis.model.base_currency}"),
        (int((changes["direction"] == "downgrade").sum()), "downgrades so far"),
        (int((profiles["lifecycle"] == "at_risk").sum()), "at risk now"),
        (len(analysis.refused), "rows refused"),
    ]
    tiles = "".join(
        f'<div class="tile"><b>{text(big)}</b><span>{text(small)}</span></div>' for big, small in told
    )
    return Markup(f'<div class="tiles">{tiles}</div>')


def _standings(profiles: pd.DataFrame) -> Iterator[Markup]:
    everyone = max(len(profiles), 1)
    for dimension in DIMENSIONS:
        named = profiles[dimension].astype(object).where(profiles[dimension].notna(), "none")
        rows = [
            (
                words(name),
                len(own),
                percent(len(own) / everyone),
                money(float(own["revenue_365d"].sum())),
                money(float(own["customer_lifetime_value_365d"].sum())),
            )
            for name, own in profiles.groupby(named, sort=False)
        ]
        rows.sort(key=lambda row: -row[1])
        head = (dimension, "customers", "share", "revenue of 365 days", "lifetime value of 365 days")
        yield table(head, rows, title(dimension))


def _changes(changes: pd.DataFrame) -> Iterator[Markup]:
    if changes.empty:
        yield paragraph("Nobody did.")
        return
    directions = ("entered", "upgrade", "downgrade", "left")
    months = changes["as_of"].dt.strftime("%Y-%m")
    rows: list[Sequence[object]] = [
        (month, *(int((own["direction"] == direction).sum()) for direction in directions))
        for month, own in changes.groupby(months)
    ]
    yield table(("month", *directions), rows[-MONTHS:], "Changes by month")
    latest = changes[changes["direction"] == "downgrade"].tail(ROWS).iloc[::-1]
    yield table(
        ("customer", "day", "of", "from", "to", "by"),
        [
            (
                row["customer_id"],
                row["as_of"].strftime("%Y-%m-%d"),
                row["dimension"],
                words(row["previous"]),
                words(row["current"]),
                row["trigger"],
            )
            for _, row in latest.iterrows()
        ],
        "Latest downgrades",
    )


def _slipping(profiles: pd.DataFrame) -> Markup:
    """Those at risk who brought most."""
    own = profiles[profiles["lifecycle"] == "at_risk"].sort_values("revenue_365d", ascending=False).head(ROWS)
    if own.empty:
        return paragraph("No customer is at risk.")
    rows = [
        (
            row["customer_id"],
            row["segment"],
            row["tier"],
            percent(float(row["churn_risk"])),
            int(row["recency_days"]),
            money(float(row["revenue_365d"])),
        )
        for _, row in own.iterrows()
    ]
    head = ("customer", "segment", "tier", "churn risk", "days since order", "revenue of 365 days")
    return table(head, rows, "At risk, by revenue of 365 days")


def _rows(analysis: Analysed) -> Iterator[Markup]:
    rows = [(of, words(name), count) for (of, name), count in analysis.outcomes.items()]
    yield table(("table", "outcome", "records"), rows)
    columns = [(of, one, column) for of, own in analysis.columns.items() for one, column in own.items()]
    yield table(("table", "field", "column"), columns, "Columns that were taken")
    refused = analysis.refused
    if refused.empty:
        return
    examples = [
        (reason, len(own), own["table"].iloc[0], int(own["row"].iloc[0]), own["message"].iloc[0])
        for reason, own in refused.groupby("reason", sort=False)
    ]
    examples.sort(key=lambda row: -row[1])
    yield table(("reason", "rows", "table", "first row", "message"), examples, "Refused")


def _model(report: dict[str, Any]) -> Iterator[Markup]:
    """The body of the calibration report, without its heading."""
    page = calibration_page(report)
    yield Markup(page[page.index("</h1>") + len("</h1>") : page.index("</main>")])
