"""Warnings that come in time: the window of silence of a business, and the limits of silence risk within it.

For a shop with weekly buyers a month of silence is a warning; for another shop it takes a year. So the window comes
from the gaps between purchase days, and the limits from the customers who have bought within it: only about those is it
open whether they stay away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enrichment.calibration.rules.newcomers import newcomers
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import Model
from enrichment.scoring.scores import score
from schemas.documents import Document

Floats = npt.NDArray[np.float64]

GAP_SHARE = 0.9
"""The window is not shorter than this share of the gaps between purchase days, up to LONGEST_WINDOW_DAYS."""
WINDOW_STEP_DAYS, LONGEST_WINDOW_DAYS = 30, 360
"""Windows are whole steps, so that they do not change with every calibration."""
LEAST_GAPS = 100
"""Fewer gaps say too little about a rhythm."""
LEAST_CUSTOMERS = 20
LEAST_RISK = 0.001
"""Where fewer than one in a thousand is expected to stay away, there is nobody to warn of."""
LIFT, SHARE_OF_REST = 2.5, 1 / 3
"""At risk: those above the limit are expected to stay away this many times as often as all are. Where that would exceed
so much of the way from the mean to certainty, that counts instead."""
NEWCOMER_SHARE = 0.5
"""A newcomer is not at risk in so much of `new_days`, unless too few warnings would remain."""
LAPSED_SHARE_OF_REST = 0.5
"""Lapsed are those whose risk is this far from the mean of those at risk to certainty."""
MARGIN_SHARE = 0.05
"""The margin of hysteresis, by the limit of `at_risk`: small, because between purchases risk only rises."""
ROOM_SHARE = 1 / 3
"""At most this much of the room between two limits, and above the upper one, so that each can be passed."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A message to somebody at risk: what one costs (base units), and which share of them it wins back."""

    cost: float
    effect: float


@dataclass(frozen=True, slots=True)
class SilenceWanted:
    """What a person asked for; None is left to the history. Shares are of those who bought within the window.

    With a `contact`, the limit of `at_risk` is where contacts bring most; it and `at_risk_share` exclude each other.
    """

    window_days: int | None = None
    at_risk_share: float | None = None
    lapsed_share: float | None = None
    contact: Contact | None = None


LEFT_TO_THE_HISTORY = SilenceWanted()


@dataclass(frozen=True, slots=True)
class SilenceFit:
    """A document with window, limits and margin, and how they came about; as it was where nothing could be said."""

    document: Document
    report: Document
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Limits:
    at_risk: float
    lapsed: float
    reason: str
    warnings: list[str]


def fit_silence(document: Document, snapshot: Snapshot, wanted: SilenceWanted) -> SilenceFit:
    """Fit the window and the limits of silence risk to a snapshot, for a document that has its `lifetime_value`.

    1. The window: the one asked for, else the document's, else by the rhythm of the snapshot's customers.
    2. The limits, among the customers who bought within the window; as asked for, else by their risks.
    """
    window_days, why = _window(document, snapshot, wanted)  # 1
    if window_days is None:
        return _kept(document, why, wanted)
    filled = _with(document, window_days, 1.0, 1.0, 0.0)
    model = Model.model_validate(filled)
    features = snapshot.features(model)
    scored = score(features, model)
    is_open = (features.order_count > 0) & (scored.recency_days < window_days)
    risk = scored.silence_risk[is_open]
    if len(risk) < LEAST_CUSTOMERS:
        return _kept(document, f"only {len(risk)} customers have bought within {window_days} days", wanted)
    if risk.mean() < LEAST_RISK:
        return _kept(document, f"next to nobody is expected to buy nothing for {window_days} days", wanted)
    newcomer = newcomers(model, int(document["lifecycle"]["new_days"] * NEWCOMER_SHARE)).silence_risk
    limits = _limits(risk, scored.value_at_stake[is_open], newcomer, wanted, window_days)  # 2
    room = min(limits.lapsed - limits.at_risk, 1.0 - limits.lapsed) * ROOM_SHARE
    margin = _rounded(min(limits.at_risk * MARGIN_SHARE, room))
    at_risk = risk >= limits.at_risk
    report = {
        "action": "fitted",
        "window_days": window_days,
        "window_reason": why,
        "at_risk_silence_risk": limits.at_risk,
        "lapsed_silence_risk": limits.lapsed,
        "silence_risk_margin": margin,
        "limits_reason": limits.reason,
        "customers": len(risk),
        "mean_silence_risk": _rounded(float(risk.mean())),
        "at_risk_share": _rounded(float(at_risk.mean())),
        "lapsed_share": _rounded(float((risk >= limits.lapsed).mean())),
        "mean_silence_risk_at_risk": _rounded(float(risk[at_risk].mean())) if at_risk.any() else None,
    }
    found = _with(document, window_days, limits.at_risk, limits.lapsed, margin)
    return SilenceFit(found, report, limits.warnings)


def window_of_gaps(gaps: npt.NDArray[np.int64]) -> int:
    """The window, in days, for gaps between successive purchase days of one customer each."""
    return min(math.ceil(_long_gap(gaps) / WINDOW_STEP_DAYS) * WINDOW_STEP_DAYS, LONGEST_WINDOW_DAYS)


def _long_gap(gaps: npt.NDArray[np.int64]) -> int:
    """The shortest gap that GAP_SHARE of the gaps do not exceed."""
    return int(np.quantile(gaps, GAP_SHARE, method="inverted_cdf"))


def purchase_gaps(snapshot: Snapshot) -> npt.NDArray[np.int64]:
    """Days between successive purchase days, of all customers, as far back as their days are kept (about 800)."""
    gaps = []
    for view in snapshot.views:
        columns = view.money.columns
        gaps.append(np.diff(columns[columns[:, 1] > 0, 0]))
    return np.concatenate(gaps) if gaps else np.zeros(0, dtype=np.int64)


def _window(document: Document, snapshot: Snapshot, wanted: SilenceWanted) -> tuple[int | None, str]:
    """The window, and why it is that; None, with the reason, where the history is too short to tell."""
    if wanted.window_days is not None:
        return wanted.window_days, "as asked for"
    before = document["lifecycle"].get("window_days")
    if before is not None:
        return before, "as in the model to begin with"
    gaps = purchase_gaps(snapshot)
    if len(gaps) < LEAST_GAPS:
        return None, f"only {len(gaps)} gaps between purchase days; {LEAST_GAPS} are needed to tell a rhythm"
    return (
        window_of_gaps(gaps),
        f"{GAP_SHARE:.0%} of the {len(gaps):,} gaps between purchase days are not longer than "
        f"{_long_gap(gaps)} days; rounded up to whole {WINDOW_STEP_DAYS} days, at most "
        f"{LONGEST_WINDOW_DAYS}",
    )


def _limits(
    risk: Floats, at_stake: Floats, newcomer: Floats, wanted: SilenceWanted, window_days: int
) -> _Limits:
    """The limits of risk for those at risk and lapsed; `newcomer` is that of one order and so many days of silence."""
    base = float(risk.mean())
    precision = min(LIFT * base, base + (1.0 - base) * SHARE_OF_REST)
    warnings: list[str] = []
    if wanted.at_risk_share is not None:
        at_risk = _limit_of_share(risk, wanted.at_risk_share)
        reason = (
            f"at_risk and lapsed together: {wanted.at_risk_share:.0%} of those who bought within the window"
        )
    elif wanted.contact is not None:
        at_risk, gain = _limit_of_gain(risk, at_stake, wanted.contact)
        named = risk >= at_risk
        reason = (
            f"at_risk: where contacts bring most: {gain:,.2f} from {np.count_nonzero(named):,} customers with "
            f"{at_stake[named].sum():,.2f} at stake, of which {wanted.contact.effect:.1%} is won back, at "
            f"{wanted.contact.cost:,.2f} a contact"
        )
        if gain <= 0:
            warnings.append(
                f"no contact pays at {wanted.contact.cost:,.2f} and {wanted.contact.effect:.1%} won back: at_risk are "
                "those of the highest risk only"
            )
    else:
        at_risk = _limit_of_precision(risk, precision)
        reached = float(risk[risk >= at_risk].mean())
        reason = (
            f"at_risk: of those at or above the limit {reached:.0%} are expected to stay away for "
            f"{window_days} days, where {base:.0%} of all are"
        )
        of_newcomers = float(newcomer.max())
        fewest = max(base, float((risk >= at_risk).mean())) / 2
        if of_newcomers > at_risk and (risk > of_newcomers).mean() >= fewest:
            at_risk = _rounded(min(of_newcomers + 1e-6, 1.0))
            reason = f"at_risk: above the risk of a newcomer after {len(newcomer) - 1} days of silence"
    if newcomer.max() >= at_risk:
        since = int(np.argmax(newcomer >= at_risk))
        warnings.append(
            f"of the customers with one order {newcomer[since]:.0%} are expected to buy nothing for "
            f"{window_days} days, so that a newcomer is at_risk, not new, from day {since} of their silence on"
        )
    mean = float(risk[risk >= at_risk].mean()) if (risk >= at_risk).any() else at_risk
    lapsed = (
        _limit_of_share(risk, wanted.lapsed_share)
        if wanted.lapsed_share is not None
        else _rounded(mean + (1.0 - mean) * LAPSED_SHARE_OF_REST)
    )
    return _Limits(at_risk, max(lapsed, at_risk), reason, warnings)


def _limit_of_share(risk: Floats, share: float) -> float:
    """The limit at or above which so many are, at most."""
    ranked = np.sort(risk)[::-1]
    places = int(round(share * len(ranked), 6))  # 29% of 100 are 29, though 0.29 * 100 is a little less
    if places == len(ranked):
        return float(ranked[-1])
    # Above the first one who has no place any more, and above those who tie with them.
    return _rounded(min(float(ranked[places]) + 1e-6, 1.0))


def _limit_of_gain(risk: Floats, at_stake: Floats, contact: Contact) -> tuple[float, float]:
    """The risk at or above which contacts bring most in all, and how much; of equals the higher risk.

    Equal risks stand or fall together.
    """
    levels, place = np.unique(-risk, return_inverse=True)
    gains = np.cumsum(np.bincount(place, weights=at_stake * contact.effect - contact.cost))
    best = int(gains.argmax())
    return float(-levels[best]), float(gains[best])


def _limit_of_precision(risk: Floats, precision: float) -> float:
    """The lowest risk at or above which risks are so high in the mean; the highest one where none is.

    Equal risks stand or fall together.
    """
    levels, counts = np.unique(risk, return_counts=True)
    levels, counts = levels[::-1], counts[::-1]
    means = np.cumsum(levels * counts) / np.cumsum(counts)
    return float(levels[max(int(np.count_nonzero(means >= precision)) - 1, 0)])


def _with(document: Document, window_days: int, at_risk: float, lapsed: float, margin: float) -> Document:
    lifecycle = {
        **document["lifecycle"],
        "window_days": window_days,
        "at_risk_silence_risk": at_risk,
        "lapsed_silence_risk": lapsed,
    }
    hysteresis = {**document["hysteresis"], "silence_risk_margin": margin}
    return {**document, "lifecycle": lifecycle, "hysteresis": hysteresis}


def _kept(document: Document, reason: str, wanted: SilenceWanted) -> SilenceFit:
    """The document as it was; what was asked for in vain is named."""
    window_days = document["lifecycle"].get("window_days")
    kept = (
        "at_risk and lapsed go by churn risk"
        if window_days is None
        else f"the window of {window_days} days and its limits stay as they were, though lifetime value is fitted anew"
    )
    options = {
        "--window-days": wanted.window_days,
        "--at-risk-share": wanted.at_risk_share,
        "--lapsed-share": wanted.lapsed_share,
    }
    if wanted.contact is not None:
        options |= {"--contact-cost": wanted.contact.cost, "--contact-effect": wanted.contact.effect}
    asked = [f"{name} {value:g}" for name, value in options.items() if value is not None]
    in_vain = f"; not applied: {', '.join(asked)}" if asked else ""
    return SilenceFit(
        document,
        {"action": "kept", "window_days": window_days, "reason": reason},
        [f"no window of silence was fitted: {reason}: {kept}{in_vain}"],
    )


def _rounded(value: float) -> float:
    return round(value, 6)
