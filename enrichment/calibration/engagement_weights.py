"""Engagement weights: what each kind of interaction says of later purchases, beyond recency and frequency."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from enrichment.calibration.snapshot import Snapshot, between
from enrichment.customer.customer import engaged_of
from enrichment.customer.engagement import COUNT_WINDOW_DAYS
from enrichment.model import Model
from schemas.documents import Document

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_CUSTOMERS = 50
"""So many must have done a thing for its weight to be fitted, so many have bought later, and so many not."""
FOLDS = 5
CONFIDENCE = 0.95
_LEAST = 1e-12
_SEED = 2005
_MOST = 0.99
"""Above this quantile of those who did a thing, more of it says no more: a robot moves no weight."""


@dataclass(frozen=True, slots=True)
class EngagementWeights:
    """Weights per kind of interaction beside the model's; None where they could not be fitted.

    `weights` has every kind that the model scores, fitted or not. `report` tells `customers`, `buyers`, `kinds`
    (`default`; `fitted` and `log_odds` of buying per interaction of today, None where not fitted; `customers`,
    `reason`), `quality` on customers that a fit had not
    seen, and the `verdict` on whether fitted weights foretell purchases better: `yes`, `no` or `cannot be told`.
    """

    weights: dict[str, float] | None
    report: Document
    warnings: list[str]


def fit_engagement_weights(cut: Snapshot, end: Snapshot, model: Model) -> EngagementWeights:
    """Fit weights by logistic regression of a purchase in (cut, end] on engagement in the 90 days up to the cut.

    An interaction counts 2^(−age ÷ half-life) as in `weighted_engagement_90d`; automated ones are left out. Recency,
    number and span of purchase days, and whether there was one, are held equal. Kinds of weight 0 stay there: they are
    what the business does, or no interest. Kinds that go with fewer purchases get 0, and then no longer win a customer
    back. The weights that are fitted add up to what the model's do for these kinds; the others keep theirs.

    Needs scikit-learn; without it, as with too few customers, weights are None and the report has the reason.
    """
    cut = cut.also_in(end)
    kinds = sorted(model.scored_kinds)
    counts = _decayed_counts(cut, kinds, model)
    bought = between(end, cut.customer_ids, cut.day).purchase_days > 0
    engaged = dict(zip(kinds, np.count_nonzero(counts, axis=0).tolist(), strict=True))
    fitted_kinds = [kind for kind in kinds if engaged[kind] >= MIN_CUSTOMERS]
    report: Document = {
        "days": end.day - cut.day,
        "window_days": COUNT_WINDOW_DAYS,
        "half_life_days": model.engagement.half_life_days,
        "customers": len(cut),
        "buyers": int(np.count_nonzero(bought)),
        "kinds": {kind: _kind(kind, engaged[kind], model) for kind in kinds},
    }
    refused = _reason_to_refuse(bought, fitted_kinds)
    if refused is not None:
        return EngagementWeights(None, {**report, "verdict": "cannot be told", "reason": refused}, [])
    chosen = [kinds.index(kind) for kind in fitted_kinds]
    problem = _Problem(
        controls=_standardised(_controls(cut)),
        counts=_capped(counts[:, chosen]),
        default=np.array([model.scored_kinds[kind] for kind in fitted_kinds]),
        bought=bought,
    )
    log_odds = problem.fit(np.ones(len(cut), dtype=np.bool_)).log_odds
    if not log_odds.any():
        reason = "no kind of interaction goes with more purchases, at equal recency and frequency"
        return EngagementWeights(None, {**report, "verdict": "no", "reason": reason}, [reason])
    weights = problem.default.sum() * log_odds / log_odds.sum()
    for kind, weight, odds in zip(fitted_kinds, weights.tolist(), log_odds.tolist(), strict=True):
        reason = (
            "goes with more purchases" if odds > 0 else "goes with no more purchases, so it has no weight"
        )
        report["kinds"][kind].update(fitted=round(weight, 2), log_odds=round(odds, 6), reason=reason)
    report.update(problem.quality())
    told = dict(model.scored_kinds) | {kind: float(report["kinds"][kind]["fitted"]) for kind in fitted_kinds}
    lost = [kind for kind in fitted_kinds if told[kind] == 0]
    warnings = (
        [f"with the fitted weights these no longer count as engagement: {', '.join(lost)}"] if lost else []
    )
    return EngagementWeights(told, report, warnings)


def with_weights(document: Document, weights: dict[str, float]) -> Document:
    """A model document with other engagement weights; scales have to be fitted anew."""
    document = copy.deepcopy(document)
    for kind, weight in weights.items():
        document["engagement"]["kinds"][kind]["weight"] = weight
    return document


def reweighted(snapshot: Snapshot, model: Model) -> Snapshot:
    """The snapshot as if it had been taken with this model's engagement weights.

    A view holds the points of each day's engagement, which are made when a record is taken. The day of the last scored
    interaction, which no score uses, stays as it was.
    """
    return Snapshot(
        snapshot.day,
        snapshot.customer_ids,
        tuple(view._replace(engaged=engaged_of(view.engagement_days, model)) for view in snapshot.views),
        snapshot.denied,
        snapshot.refunds_without_order,
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    """Log odds per unit of each column of counts, none below zero, and the probability of buying of everyone."""

    log_odds: Floats
    probability: Floats


@dataclass(frozen=True, slots=True)
class _Problem:
    """Rows are customers: what is held equal, how often they did each thing, and whether they bought."""

    controls: Floats
    counts: Floats
    default: Floats
    bought: Bools

    def fit(self, seen: Bools) -> _Fit:
        """Fit every column its own weight to the customers `seen`; columns that come out below zero are left out.

        They leave one by one, the most negative first, because two kinds that go together may share a sign.
        """
        kept = np.ones(self.counts.shape[1], dtype=np.bool_)
        while True:
            log_odds = np.zeros(len(kept))
            log_odds[kept], probability = self.regress(self.counts[:, kept], seen)
            if (log_odds >= 0).all():
                return _Fit(log_odds, probability)
            kept[log_odds.argmin()] = False

    def regress(self, columns: Floats, seen: Bools) -> tuple[Floats, Floats]:
        """Log odds per unit of `columns` at equal controls, and everyone's probability of buying."""
        from sklearn.linear_model import LogisticRegression

        spread = columns[seen].std(axis=0)
        spread[spread == 0] = 1.0
        table = np.hstack([self.controls, columns / spread])
        regression = LogisticRegression(max_iter=1000).fit(table[seen], self.bought[seen])
        log_odds = regression.coef_[0, self.controls.shape[1] :] / spread
        return np.asarray(log_odds, np.float64), np.asarray(regression.predict_proba(table)[:, 1], np.float64)

    def quality(self) -> Document:
        """How well purchases are foretold of customers in the fold that was held out, with what weights."""
        from sklearn.metrics import log_loss, roc_auc_score
        from sklearn.model_selection import StratifiedKFold

        told = {
            name: np.zeros(len(self.bought))
            for name in ("no_engagement", "default_weights", "fitted_weights")
        }
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=_SEED).split(self.counts, self.bought)
        for _, held_out in folds:
            seen = np.ones(len(self.bought), dtype=np.bool_)
            seen[held_out] = False
            probabilities = (
                self.regress(self.counts[:, :0], seen)[1],
                self.regress((self.counts @ self.default)[:, None], seen)[1],
                self.fit(seen).probability,
            )
            for name, probability in zip(told, probabilities, strict=True):
                told[name][held_out] = probability[held_out]
        quality = {
            name: {
                "auc": round(float(roc_auc_score(self.bought, probability)), 6),
                "log_loss": round(float(log_loss(self.bought, probability)), 6),
            }
            for name, probability in told.items()
        }
        return {"quality": {"folds": FOLDS, **quality}, **self._verdict(told)}

    def _verdict(self, told: dict[str, Floats]) -> Document:
        """Whether each customer's log loss is less in the mean, by the interval of a paired t-test."""
        loss = {
            name: -np.log(np.clip(np.where(self.bought, probability, 1.0 - probability), _LEAST, 1.0))
            for name, probability in told.items()
        }
        saved = loss["default_weights"] - loss["fitted_weights"]
        interval = [0.0, 0.0]
        if np.ptp(saved) > 0:
            bounds = stats.ttest_1samp(saved, 0.0).confidence_interval(CONFIDENCE)
            interval = [round(float(bounds.low), 6), round(float(bounds.high), 6)]
        low, high = interval
        verdict = "yes" if low > 0 else "no" if high < 0 else "cannot be told"
        reason = {
            "yes": "fitted weights foretell purchases better than the model's",
            "no": "fitted weights foretell purchases worse than the model's",
        }.get(
            verdict, "fitted weights and the model's foretell purchases equally well, as far as can be told"
        )
        return {
            "log_loss_saved": round(float(saved.mean()), 6),
            "interval": interval,
            "confidence": CONFIDENCE,
            "verdict": verdict,
            "reason": reason,
        }


def _kind(kind: str, customers: int, model: Model) -> Document:
    reason = "not fitted"
    if customers < MIN_CUSTOMERS:
        reason = f"not fitted: {customers} customers did this, and it takes {MIN_CUSTOMERS}"
    return {
        "default": model.scored_kinds[kind],
        "fitted": None,
        "log_odds": None,
        "customers": customers,
        "reason": reason,
    }


def _reason_to_refuse(bought: Bools, kinds: list[str]) -> str | None:
    """Why no weights can be fitted, if so."""
    if len(kinds) < 2:
        names = f"only {kinds[0]}" if kinds else "no kind of interaction"
        return f"{names} was found with {MIN_CUSTOMERS} customers or more, and weights are relative to each other"
    for count, what in ((np.count_nonzero(bought), "bought"), (np.count_nonzero(~bought), "did not buy")):
        if count < MIN_CUSTOMERS:
            return f"only {count} customers {what} later; it takes {MIN_CUSTOMERS}"
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return "scikit-learn is not installed: pip install 'ebbtide[calibration]'"
    return None


def _decayed_counts(snapshot: Snapshot, kinds: list[str], model: Model) -> Floats:
    """(customers, kinds): interactions of the window, each halved for every half-life since."""
    column = {kind: at for at, kind in enumerate(kinds)}
    decay = np.exp2(-np.arange(COUNT_WINDOW_DAYS) / model.engagement.half_life_days)
    counts = np.zeros((len(snapshot), len(kinds)))
    for row, view in enumerate(snapshot.views):
        for bucket in view.engagement_days:
            age = snapshot.day - bucket.day
            if age >= COUNT_WINDOW_DAYS:
                continue
            for key, count in bucket.counts.items():
                channel, _, kind = key.rpartition(".")
                if channel != "automated" and kind in column:
                    counts[row, column[kind]] += decay[age] * count
    return counts


def _capped(counts: Floats) -> Floats:
    columns = [np.minimum(column, np.quantile(column[column > 0], _MOST)) for column in counts.T]
    return np.stack(columns, axis=1)


def _controls(snapshot: Snapshot) -> Floats:
    """(customers, 4): an order at all, and the logs of days since the last, purchase days, and days since the first."""
    rows = []
    for view in snapshot.views:
        totals = view.money.totals
        if totals.first_day is None or totals.last_day is None:
            rows.append((0, 0, 0, 0))
        else:
            rows.append(
                (1, snapshot.day - totals.last_day, totals.purchase_days, snapshot.day - totals.first_day)
            )
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    table[:, 1:] = np.log1p(table[:, 1:])
    return table


def _standardised(columns: Floats) -> Floats:
    spread = columns.std(axis=0)
    return np.asarray((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0), dtype=np.float64)
