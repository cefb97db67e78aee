"""`ebbtide analyze`: what a table of orders says, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from schemas.profiles import DIMENSIONS
from streams.analysis.analysis import Analysis
from streams.console.tables import table_lines
from streams.errors import UsageError
from streams.extras import missing
from streams.insight.profile_rows import as_cell, is_nested
from streams.reports.formats import money

MOST_AT_STAKE: Final = 10
SLIPPED: Final = ("at_risk", "lapsed")
FORMATS: Final = (".csv", ".parquet", ".jsonl")


def summary_text(analysis: Analysis) -> str:
    """Standings with what they bring, RFM, and who slipped and what that is worth; amounts are in the base currency."""
    return "\n".join(_lines(analysis))


def write_profiles(analysis: Analysis, path: Path) -> None:
    """Write one row a customer, as CSV, Parquet or JSON Lines, by the name of the file.

    In CSV and Parquet, lists and objects (such as `preferred_categories`) are JSON text.

    Raises:
        UsageError: The name ends in none of these.
        MissingExtraError: It is Parquet, and the package for it is not installed.
        OSError: It cannot be written.
    """
    profiles = analysis.profiles
    if path.suffix == ".csv":
        _flat(profiles).to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        profiles.to_json(path, orient="records", lines=True, date_format="iso")
    elif path.suffix == ".parquet":
        try:
            _flat(profiles).to_parquet(path, index=False)
        except ImportError:
            raise missing(f"writing {path}, which is Parquet,", "files") from None
    else:
        raise UsageError(f"{path}: the name of a file of profiles ends in one of {', '.join(FORMATS)}")


def _flat(profiles: pd.DataFrame) -> pd.DataFrame:
    """With text for what is no single value."""
    nested = [column for column in profiles.columns if profiles[column].map(is_nested).any()]
    return profiles.assign(**{column: profiles[column].map(as_cell) for column in nested})


def _lines(analysis: Analysis) -> Iterator[str]:
    profiles, currency = analysis.profiles, analysis.model.base_currency
    yield f"{len(profiles):,} customers as of {analysis.replayed.as_of}, amounts in {currency}"
    for dimension in DIMENSIONS:
        yield ""
        yield from table_lines(_standings(profiles, dimension))
    yield ""
    best = (profiles["rfm"] == "555").sum()
    yield f"RFM: {best:,} customers are 555, the best in recency, frequency and money"
    slipped = profiles[profiles["lifecycle"].isin(SLIPPED)]
    at_stake = slipped.sort_values("value_at_stake", ascending=False, kind="stable")
    yield f"Slipped: {len(slipped):,} customers; {money(float(slipped['value_at_stake'].sum()))} at stake"
    if len(slipped):
        rows = [("customer", "lifecycle", "days since the last order", "at stake")]
        for _, row in at_stake.head(MOST_AT_STAKE).iterrows():
            own = row["customer_id"], row["lifecycle"], str(row["recency_days"]), money(row["value_at_stake"])
            rows.append(own)
        yield from table_lines(rows)


def _standings(profiles: pd.DataFrame, dimension: str) -> list[tuple[str, str, str, str]]:
    rows = [(dimension, "customers", "revenue of 365 days", "lifetime value of 365 days")]
    named = profiles[dimension].astype(object).where(profiles[dimension].notna(), "none")
    for name, own in sorted(profiles.groupby(named), key=lambda pair: -len(pair[1])):
        money_of = [money(float(own[of].sum())) for of in ("revenue_365d", "customer_lifetime_value_365d")]
        rows.append((str(name), f"{len(own):,}", money_of[0], money_of[1]))
    return rows
