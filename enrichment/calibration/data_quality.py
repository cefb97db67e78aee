"""What a history is like: what was refused or repeated, what is missing, what stands out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from enrichment.calibration.peculiarities import peculiarities
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import METRICS, Model
from enrichment.scoring.features import NO_DAY, Features
from enrichment.scoring.scores import score
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

OUTLIER_LIMIT = 3.5
MANY_DEAD_LETTERS = 0.01
TRUNCATED_SHARE = 0.3
TRUNCATED_DAYS = 31
TRUNCATED_MIN_HISTORY_DAYS = 180


@dataclass(frozen=True, slots=True)
class RecordCounts:
    """What became of the records that were read.

    `outcomes` is by topic, then outcome, as in replay's summary (`accepted`, `duplicate`, `dead_letter`, `after_until`,
    `erased`); `dead_letters` is by reason.
    """

    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)


def data_quality(snapshot: Snapshot, model: Model, records: RecordCounts | None = None) -> Document:
    """What was found on the way to a snapshot; `records` is null in the result where it is not given.

    Money is in base units. No customer is named: the report may be kept for longer than they are.
    """
    document: Document = {
        "records": None if records is None else _records(records),
        "customers": len(snapshot),
        "denied": snapshot.denied,
        "refunds_without_order": snapshot.refunds_without_order,
        **(_of_customers(snapshot, model) if len(snapshot) else _OF_NOBODY),
    }
    document["peculiarities"], sentences = peculiarities(snapshot)
    document["warnings"] = [*_warnings(document), *sentences]
    return document


_OF_NOBODY: Document = {
    "without_counted_order": 0,
    "only_returns": 0,
    "net_negative": 0,
    "first_orders": {"history_days": 0, "in_first_31_days": None},
    "missing": {},
    "outliers": {},
}


def _of_customers(snapshot: Snapshot, model: Model) -> Document:
    """What can be seen in the customers' own aggregates."""
    features = snapshot.features(model)
    without = features.order_count == 0
    spend = {
        "average_order_value_365d": _positive(features.counted_365d_micros, features.order_count_365d),
        "revenue": _positive(features.revenue_micros, None),
        "purchase_days": features.purchase_days[features.purchase_days > 0].astype(np.float64),
    }
    return {
        "without_counted_order": int(np.count_nonzero(without)),
        "only_returns": int(np.count_nonzero(without & (features.refunded_micros > 0))),
        "net_negative": int(np.count_nonzero(features.revenue_micros < 0)),
        "first_orders": _first_orders(features, snapshot.day),
        "missing": _missing(features, model),
        "outliers": {name: outliers(values) for name, values in spend.items()},
    }


def outliers(values: Floats) -> Document:
    """How many positive values stand out, by the modified z-score of their logarithms, and what share they hold.

    |x − median| ÷ (1.4826 × MAD) above 3.5, after B. Iglewicz, D. C. Hoaglin (1993), How to Detect and Handle Outliers;
    MAD is the median absolute deviation. Where more than half of the values are the same, MAD is 0, and their mean
    absolute deviation × 1.2533 takes its place, as they advise. Logarithms, since spend is skewed anyhow.
    """
    found: Document = {
        "customers": len(values),
        "low": 0,
        "high": 0,
        "share_of_total_high": None,
        "median": None,
        "largest": None,
    }
    if not len(values):
        return found
    logs = np.log(values)
    center = float(np.median(logs))
    spread = float(stats.median_abs_deviation(logs, scale="normal"))
    if spread == 0:
        spread = 1.253314 * float(np.mean(np.abs(logs - center)))
    far = (logs - center) / spread if spread > 0 else np.zeros(len(logs))
    high = far > OUTLIER_LIMIT
    return {
        **found,
        "low": int(np.count_nonzero(far < -OUTLIER_LIMIT)),
        "high": int(np.count_nonzero(high)),
        "share_of_total_high": round(float(values[high].sum() / values.sum()), 6),
        "median": round(float(np.median(values)), 6),
        "largest": round(float(values.max()), 6),
    }


def _positive(micros: npt.NDArray[np.int64], by: npt.NDArray[np.int64] | None) -> Floats:
    """Amounts above zero in base units, each divided by its number of orders where these are given."""
    chosen = micros > 0
    amounts = micros[chosen] / 1e6
    return amounts if by is None else amounts / by[chosen]


def _records(records: RecordCounts) -> Document:
    in_all = sum(sum(outcomes.values()) for outcomes in records.outcomes.values())
    return {
        "read": in_all,
        "outcomes": {topic: dict(outcomes) for topic, outcomes in sorted(records.outcomes.items())},
        "duplicates": sum(outcomes.get("duplicate", 0) for outcomes in records.outcomes.values()),
        "dead_letters": sum(records.dead_letters.values()),
        "dead_letters_by_reason": dict(sorted(records.dead_letters.items())),
    }


def _first_orders(features: Features, day: int) -> Document:
    """How the first orders lie in time: a heap at the beginning is a log that begins later than its customers."""
    first = features.first_order_day[features.first_order_day != NO_DAY]
    if not len(first):
        return {"history_days": 0, "in_first_31_days": None}
    return {
        "history_days": int(day - first.min() + 1),
        "in_first_31_days": round(float(np.mean(first < first.min() + TRUNCATED_DAYS)), 6),
    }


def _missing(features: Features, model: Model) -> dict[str, float]:
    """Per metric, the share of customers for whom it is not defined."""
    undefined = np.isnan(score(features, model).metrics).mean(axis=0)
    return {name: round(float(share), 6) for name, share in zip(METRICS, undefined, strict=True)}


def _warnings(document: Document) -> list[str]:
    warnings = []
    records, first = document["records"], document["first_orders"]
    if (
        records is not None
        and records["read"]
        and records["dead_letters"] > MANY_DEAD_LETTERS * records["read"]
    ):
        reasons = ", ".join(f"{name} {count:,}" for name, count in records["dead_letters_by_reason"].items())
        warnings.append(
            f"{records['dead_letters'] / records['read']:.1%} of the records were refused as dead letters ({reasons})"
        )
    early = first["in_first_31_days"]
    if early is not None and early > TRUNCATED_SHARE and first["history_days"] > TRUNCATED_MIN_HISTORY_DAYS:
        warnings.append(
            f"{early:.0%} of the customers have their first order in the log's first {TRUNCATED_DAYS} days: it may "
            "begin later than they do, and then tenure is too short and frequency too low"
        )
    if document["refunds_without_order"]:
        warnings.append(
            f"{document['refunds_without_order']:,} refunds are of orders that are not in the log"
        )
    for name, found in document["outliers"].items():
        share = found["share_of_total_high"]
        if share is not None and share > 0.2 and found["high"] <= 0.01 * found["customers"] + 1:
            warnings.append(
                f"{name}: {found['high']:,} of {found['customers']:,} customers hold {share:.0%} of the total; "
                f"the largest has {found['largest']:,.2f} against a median of {found['median']:,.2f}"
            )
    return warnings
