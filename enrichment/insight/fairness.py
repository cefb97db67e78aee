"""Whether groups of customers fare alike: shares per tier and segment, and the 80% rule of disparate impact.

The rule is that of the Uniform Guidelines on Employee Selection Procedures (29 CFR 1607.4 D, 1978): a group whose share
of a favourable outcome is below four fifths of the most favoured group's is evidence of adverse impact. It is a reason
to look, not a verdict; and a small group is no reason not to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.stats.contingency import relative_risk

from schemas.changes import LEVELS
from schemas.documents import Document

Bools = npt.NDArray[np.bool_]

FOUR_FIFTHS = 0.8
CONFIDENCE = 0.95
SMALL_GROUP = 30
"""Groups of fewer customers are marked as small: their shares may well be chance."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What counts as being favoured: one of these standings in a dimension."""

    dimension: str
    standings: tuple[str, ...]

    @property
    def name(self) -> str:
        """For people, such as `tier strategic or named`."""
        return f"{self.dimension} {' or '.join(self.standings)}"


OUTCOMES = (Outcome("tier", ("strategic", "named")), Outcome("segment", ("high",)))
"""More service, and the best offers."""


def audit(
    by: str,
    groups: Sequence[str | None],
    tiers: Sequence[str],
    segments: Sequence[str],
    outcomes: Sequence[Outcome] = OUTCOMES,
) -> Document:
    """Shares per group of the attribute `by`, and each group's ratio to the most favoured one; one element a customer.

    Customers without the attribute (None) are a group of their own. Intervals are Wilson's for shares, and Katz's for
    ratios, both of 95%. A ratio below 0.8 is a warning whatever the size of the group and whatever its interval; where
    the most favoured group is a small one, ratios to the most favoured of the others are looked at as well.

    Raises:
        ValueError: the three sequences differ in length, or are empty.
    """
    if not len(groups) == len(tiers) == len(segments):
        raise ValueError("groups, tiers and segments must have one element per customer each")
    if not len(groups):
        raise ValueError("there are no customers to audit")
    standing = {"tier": np.array(tiers), "segment": np.array(segments)}
    names = sorted({group for group in groups if group is not None})
    keys: list[str | None] = [*names, *([None] if any(group is None for group in groups) else [])]
    place = {key: at for at, key in enumerate(keys)}
    of_group = np.array([place[group] for group in groups], dtype=np.int64)
    sizes = np.bincount(of_group, minlength=len(keys)).tolist()
    labels = _labels(by, keys)
    found = [_outcome(outcome, standing, of_group, labels, sizes) for outcome in outcomes]
    return {
        "by": by,
        "customers": len(groups),
        "rule": FOUR_FIFTHS,
        "confidence": CONFIDENCE,
        "small_below": SMALL_GROUP,
        "groups": [
            {
                "group": key,
                "label": labels[at],
                "customers": sizes[at],
                "share": round(sizes[at] / len(groups), 6),
                "small": sizes[at] < SMALL_GROUP,
                **{
                    dimension: _shares(dimension, column[of_group == at])
                    for dimension, column in standing.items()
                },
            }
            for at, key in enumerate(keys)
        ],
        "outcomes": found,
        "warnings": [warning for outcome in found for warning in _warnings(outcome)],
    }


def wilson(count: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share (E. B. Wilson 1927, JASA 22), each end within [0, 1]."""
    return _wilson(count, of)


@lru_cache(maxsize=4096)
def _wilson(count: int, of: int) -> tuple[float, float]:
    interval = stats.binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return round(float(interval.low), 6), round(float(interval.high), 6)


def ratio_interval(favoured: int, of: int, best_favoured: int, best_of: int) -> tuple[float, float | None]:
    """The 95% interval of a group's share ÷ another's, by Katz's logarithm; None is no upper end.

    Without anyone favoured in the group, Katz has none: then from 0 to the upper end of the group's Wilson interval ÷
    the lower end of the other's.
    """
    if favoured == 0:
        low_of_best = wilson(best_favoured, best_of)[0]
        return 0.0, round(wilson(favoured, of)[1] / low_of_best, 6) if low_of_best > 0 else None
    interval = relative_risk(favoured, of, best_favoured, best_of).confidence_interval(CONFIDENCE)
    return round(float(interval.low), 6), round(float(interval.high), 6)


def _labels(by: str, keys: Sequence[str | None]) -> list[str]:
    """Groups as people read them."""
    return [f"(without {by})" if key is None else key or "(empty)" for key in keys]


def _shares(dimension: str, standings: npt.NDArray[np.str_]) -> dict[str, Document]:
    """Per standing, from the top: how many of the group, their share, and its interval."""
    shares = {}
    for name in LEVELS[dimension]:  # type: ignore[index]  # dimensions are those of LEVELS
        count = int(np.count_nonzero(standings == name))
        low, high = wilson(count, len(standings))
        shares[name] = {
            "customers": count,
            "share": round(count / len(standings), 6),
            "low": low,
            "high": high,
        }
    return shares


def _outcome(
    outcome: Outcome,
    standing: dict[str, npt.NDArray[np.str_]],
    of_group: npt.NDArray[np.int64],
    labels: Sequence[str],
    sizes: Sequence[int],
) -> Document:
    """One favourable outcome: each group's share, and its ratio to the most favoured group's."""
    favoured = np.isin(standing[outcome.dimension], outcome.standings)
    counts = np.bincount(of_group[favoured], minlength=len(sizes)).tolist()
    everyone = range(len(sizes))
    best = _most_favoured(everyone, counts, sizes)
    large = [at for at in everyone if sizes[at] >= SMALL_GROUP]
    best_large = _most_favoured(large, counts, sizes) if sizes[best] < SMALL_GROUP and large else best
    rows = []
    for at in everyone:
        low, high = wilson(counts[at], sizes[at])
        rows.append(
            {
                "label": labels[at],
                "customers": sizes[at],
                "small": sizes[at] < SMALL_GROUP,
                "favoured": counts[at],
                "share": round(counts[at] / sizes[at], 6),
                "low": low,
                "high": high,
                **_compared(at, best, counts, sizes),
                "to_most_favoured_not_small": (
                    _compared(at, best_large, counts, sizes) if best_large != best else None
                ),
            }
        )
    return {
        "outcome": outcome.name,
        "favoured": sum(counts),
        "most_favoured": labels[best] if counts[best] else None,
        "most_favoured_is_small": sizes[best] < SMALL_GROUP,
        "most_favoured_not_small": labels[best_large] if best_large != best else None,
        "groups": rows,
    }


def _most_favoured(candidates: Sequence[int], counts: Sequence[int], sizes: Sequence[int]) -> int:
    """The group of the highest share; of several the largest, then the first."""
    return max(candidates, key=lambda at: (counts[at] / sizes[at], sizes[at], -at))


def _compared(at: int, best: int, counts: Sequence[int], sizes: Sequence[int]) -> Document:
    """A group's ratio to another, with its interval, and what the rule says.

    `verdict` is `below`, `unclear` (not below, but the interval reaches below), `holds`, `most favoured`, or null where
    nobody is favoured.
    """
    if counts[best] == 0:
        return {"ratio": None, "ratio_low": None, "ratio_high": None, "verdict": None}
    ratio = counts[at] * sizes[best] / (sizes[at] * counts[best])
    if at == best:
        return {"ratio": 1.0, "ratio_low": None, "ratio_high": None, "verdict": "most favoured"}
    low, high = ratio_interval(counts[at], sizes[at], counts[best], sizes[best])
    verdict = "below" if ratio < FOUR_FIFTHS else "unclear" if low < FOUR_FIFTHS else "holds"
    return {"ratio": round(ratio, 6), "ratio_low": low, "ratio_high": high, "verdict": verdict}


def _warnings(outcome: Document) -> list[str]:
    """Every group below the rule, however small; then, in one line, those of whom it cannot be told."""
    name, rows = outcome["outcome"], outcome["groups"]
    if outcome["most_favoured"] is None:
        return [f"{name}: nobody has it, so groups cannot be compared"]
    warnings, unclear = [], []
    for row in rows:
        verdicts = [compared["verdict"] for _, compared in _comparisons(outcome, row)]
        if "below" in verdicts:
            warnings.append(_below(outcome, row))
        elif "unclear" in verdicts:
            unclear.append(row["label"])
    if unclear:
        warnings.append(
            f"{name}: {', '.join(unclear)} {'reaches' if len(unclear) == 1 else 'reach'} four fifths, but with an "
            "interval that goes below: it cannot be told"
        )
    return warnings


def _comparisons(outcome: Document, row: Document) -> list[tuple[str, Document]]:
    """With whom a group is compared: the most favoured, and where that is small, the best of the others."""
    best = str(outcome["most_favoured"])
    if outcome["most_favoured_not_small"] is None:
        return [(best, row)]
    return [
        (f"{best} (a small group itself)", row),
        (outcome["most_favoured_not_small"], row["to_most_favoured_not_small"]),
    ]


def _below(outcome: Document, row: Document) -> str:
    told = [
        f"{compared['ratio']:.2f} times the share of {best} (95% interval {_span(compared)})"
        for best, compared in _comparisons(outcome, row)
        if compared["verdict"] == "below"
    ]
    wide = f"; a small group of {row['customers']}: the interval is wide" if row["small"] else ""
    return (
        f"{outcome['outcome']}: {row['label']} has {row['share']:.1%} ({row['favoured']:,} of "
        f"{row['customers']:,}), {' and '.join(told)}{wide}"
    )


def _span(compared: Document) -> str:
    """A ratio's interval, and what its upper end leaves open."""
    low, high = compared["ratio_low"], compared["ratio_high"]
    if high is None:
        return f"from {low:.2f}, without an upper end: chance alone might explain it"
    span = f"{low:.2f} to {high:.2f}"
    if high >= 1:
        return f"{span}: chance alone might explain it"
    return f"{span}: four fifths are within it" if high >= FOUR_FIFTHS else span
