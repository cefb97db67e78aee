"""A profile as one row of a table: the columns of `ebbtide.analyze`'s frame, and of `ebbtide profiles --out x.csv`."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

import orjson

from schemas.documents import ProfileDocument

PROFILE_COLUMNS: Final = (
    *("customer_id", "segment", "tier", "lifecycle"),
    *("value", "business", "engagement", "cost", "potential"),
    *("churn_risk", "silence_risk", "probability_active", "customer_lifetime_value_365d", "value_at_stake"),
    *("expected_orders_365d",),
    *("recency_days", "tenure_days", "rfm", "order_count", "purchase_days", "revenue", "refunded", "margin"),
    *("first_order_on", "last_order_on", "last_engaged_on", "order_count_30d", "order_count_90d"),
    *("order_count_365d", "revenue_30d", "revenue_90d", "revenue_365d", "margin_365d"),
    *("average_order_value_365d", "cost_to_serve_365d", "cost_to_acquire", "engagements_90d"),
    *(
        "preferred_categories",
        "preferred_channels",
        "attributes",
        "declared",
        "consents",
        "sequence",
        "as_of",
    ),
)


def profile_row(profile: ProfileDocument) -> dict[str, Any]:
    """What a profile says, by column; it may hold keys that are no column."""
    return {
        **profile["standing"],
        **profile["scores"],
        **profile["traits"],
        **profile["aggregates"],
        **{of: profile[of] for of in ("customer_id", "as_of", "sequence", "consents")},
    }


def csv_header() -> bytes:
    """The line of a CSV file that names the columns, without its end."""
    return _csv_line(PROFILE_COLUMNS)


def csv_line(profile: ProfileDocument) -> bytes:
    """A profile as a line of a CSV file, without its end: amounts as in the profile, lists and objects as JSON."""
    row = profile_row(profile)
    return _csv_line([as_cell(row.get(column)) for column in PROFILE_COLUMNS])


def as_cell(value: Any) -> Any:
    """What a table holds in place of a list or an object, which is its JSON; any other value as it is."""
    return orjson.dumps(value).decode() if is_nested(value) else value


def is_nested(value: Any) -> bool:
    """Whether it is no single value."""
    return isinstance(value, (dict, list))


def _csv_line(cells: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue().encode()
