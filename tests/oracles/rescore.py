"""An independent computation of every customer's scores, in pandas, from docs/scores.md: one batch, no state.

Nothing of the product is imported; purchases and engagement are counted by `recount`. Lifetime value is by the
equations of Fader and Hardie (2005) as they are printed, with Gaussian hypergeometric functions; of MBG/CNBD-k, every
purchase's chance is added up over every number of stages that may have passed; the corrections of the recalibrated
family are those of docs/scores.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import betainc, gammaln, hyp2f1

from tests.oracles.recount import (
    Log,
    Terms,
    accepted,
    end_us,
    engagement_columns,
    engagement_dropped_up_to,
    kept_engagements,
    purchase_columns,
    read_terms,
    standing_orders,
)

Floats = npt.NDArray[np.float64]
DAY_US = 86_400_000_000
RECENT_DAYS = (30, 90, 180)
DAYS_PER_UNIT = {"day": 1.0, "week": 7.0, "month": 365.25 / 12}
GROUP_OF = {
    "recency_days": "business",
    "order_count_365d": "business",
    "revenue_365d": "business",
    "margin_365d": "business",
    "average_order_value_365d": "business",
    "customer_lifetime_value_365d": "business",
    "weighted_engagement_90d": "engagement",
    "consent_breadth": "engagement",
    "cost_to_serve_ratio": "cost",
    "cost_to_acquire_ratio": "cost",
    "declared_intent": "potential",
    "engagement_ahead_of_spend": "potential",
    "growth": "potential",
}


def rescore(log: Log, model: Mapping[str, Any], until: str | int | None = None) -> pd.DataFrame:
    """The scores and the predictions of every customer for whom profiling is allowed at `until`, by customer id.

    Columns: the four scores and `value`; `probability_active`, `churn_risk`, `silence_risk`, `expected_orders_365d` and
    the unrounded `customer_lifetime_value_365d` and `value_at_stake`, which are missing without a counted order;
    `silence_risk` is missing too without a window. Declared answers are not looked at.
    """
    terms, until_us = read_terms(model), end_us(log, until)
    day = until_us // DAY_US
    purchases, engagements, consents = accepted(log, until_us)
    customers = sorted({*purchases["customer_id"], *engagements["customer_id"], *consents["customer_id"]})
    denied = {
        customer
        for customer, last_us in engagement_dropped_up_to(
            consents, terms.profiling_allowed_by_default, until_us
        ).items()
        if last_us > until_us
    }
    engagements = kept_engagements(engagements, consents, terms, until_us)
    frame = pd.DataFrame(index=pd.Index([customer for customer in customers if customer not in denied]))
    for name, column in {
        **purchase_columns(purchases, terms, day),
        **engagement_columns(engagements, terms, day),
        **_repeat_spend(purchases, terms),
        **_recent_days(purchases, terms, day),
        "weighted_engagement": _weighted_engagement(engagements, model, day),
        "consent_breadth": _breadth(consents, model, until_us),
    }.items():
        frame[name] = column
    numbers = [name for name in frame.columns if name != "engagements_90d" and not name.endswith("_day")]
    frame = frame.assign(**{name: frame[name].fillna(0) for name in numbers})
    lifetime = _lifetime_value(frame, model, day)
    metrics = _metrics(frame, lifetime["customer_lifetime_value_365d"], model, day)
    return pd.concat([_scores(metrics, model), lifetime.round(6)], axis=1)


def _repeat_spend(purchases: pd.DataFrame, terms: Terms) -> dict[str, pd.Series[Any]]:
    """Purchase days after the first on which counted orders came to more than zero, and what they came to."""
    counted = standing_orders(purchases, terms)
    by_day = counted.groupby(["customer_id", "day"])["total_micros"].sum().reset_index()
    by_day = by_day[by_day.groupby("customer_id").cumcount() > 0]
    spent = by_day[by_day["total_micros"] > 0].groupby("customer_id")["total_micros"]
    return {"repeat_spend_days": spent.size(), "repeat_spend": spent.sum()}


def _recent_days(purchases: pd.DataFrame, terms: Terms, day: int) -> dict[str, pd.Series[Any]]:
    """Purchase days after the first within windows that end with `day`."""
    days = standing_orders(purchases, terms)[["customer_id", "day"]].drop_duplicates().sort_values("day")
    later = days[days.groupby("customer_id").cumcount() > 0]
    return {
        f"repeat_days_{window}d": later[later["day"] > day - window].groupby("customer_id").size()
        for window in RECENT_DAYS
    }


def _weighted_engagement(engagements: pd.DataFrame, model: Mapping[str, Any], day: int) -> pd.Series[float]:
    """Σ weight × 2^(−age ÷ half-life) over the interactions of 90 days that are not automated."""
    kinds = {kind: part.get("weight", 0) for kind, part in model["engagement"]["kinds"].items()}
    recent = engagements[(engagements["day"] > day - 90) & ~engagements["automated"].map(bool).astype(bool)]
    age_days = day - recent["day"].astype(float)
    points = recent["kind"].map(kinds).astype(float) * 2 ** (
        -age_days / model["engagement"]["half_life_days"]
    )
    weighted: pd.Series[float] = points.groupby(recent["customer_id"]).sum()
    return weighted


def _breadth(consents: pd.DataFrame, model: Mapping[str, Any], until_us: int) -> pd.Series[int]:
    """How many channels have a grant that holds; per channel the latest answer wins, a denial at the same time."""
    no_channels = {"profiling", *model.get("other_purposes", ())}
    said = consents[(consents["kind"] == "consent") & ~consents["purpose"].isin(no_channels)].copy()
    assert said["expires_at"].isna().all(), "consents that end are not looked at here"
    said["denied"] = ~said["granted"].map(bool).astype(bool)
    latest = said.sort_values(["at_us", "denied", "event_id"]).drop_duplicates(
        ["customer_id", "purpose"], keep="last"
    )
    return latest[~latest["denied"]].groupby("customer_id").size()


def _lifetime_value(frame: pd.DataFrame, model: Mapping[str, Any], day: int) -> pd.DataFrame:
    """Predictions for 365 days."""
    part = model["lifetime_value"]
    unit_days = DAYS_PER_UNIT[part["time_unit"]]
    bought = frame[frame["order_count"] > 0]
    x = (bought["purchase_days"] - 1).to_numpy(float)
    first, last = bought["first_order_day"].to_numpy(float), bought["last_order_day"].to_numpy(float)
    family = part["purchases"]["family"]
    families = {"pareto_nbd": _pareto_nbd, "bg_nbd": _bg_nbd, "mbg_cnbd_k": _mbg_cnbd_k}
    predict: Callable[..., tuple[Floats, Floats, Floats]] = families.get(family, _recalibrated)
    t_x, T = (last - first) / unit_days, (day - first) / unit_days
    recent = [bought[f"repeat_days_{window}d"].to_numpy(float) for window in RECENT_DAYS]

    def predicted(t_x: Floats, days: float, *recent: Floats) -> list[Floats]:
        more = (unit_days, *recent) if family == "recalibrated" else ()
        found = predict(part["purchases"], x, t_x, T, days / unit_days, *more)
        return [np.round(values, 6) for values in found]

    active, silent, expected = predicted(t_x, 365, *recent)
    with_today = [np.minimum(np.maximum(count, 1), np.maximum(x, count)) for count in recent]
    expected_if_back = predicted(T, 365, *with_today)[2]
    window_days = model["lifecycle"].get("window_days")
    silent_in_window = (
        np.full(len(x), np.nan) if window_days is None else predicted(t_x, window_days, *recent)[1]
    )
    p, q, gamma = (part["spend"][name] for name in ("p", "q", "gamma"))
    days, spent = bought["repeat_spend_days"], bought["repeat_spend"] / 1e6
    spend = p * (gamma + spent) / (p * days + q - 1)
    revenue = bought["revenue"].to_numpy(float)
    rate = np.where(
        revenue > 0, bought["margin"] / np.where(revenue > 0, revenue, 1), 1 - float(model["cost_ratio"])
    )
    worth = spend * np.clip(rate, -1, 1)
    lifetime = expected * worth
    told = pd.DataFrame(
        {
            "probability_active": active,
            "churn_risk": silent,
            "silence_risk": silent_in_window,
            "expected_orders_365d": expected,
            "customer_lifetime_value_365d": lifetime,
            "value_at_stake": np.maximum(expected_if_back * worth - lifetime, 0),
        },
        index=bought.index,
    )
    return told.reindex(frame.index)


def _pareto_nbd(
    parameters: Mapping[str, float], x: Floats, t_x: Floats, T: Floats, t: float
) -> tuple[Floats, Floats, Floats]:
    """(probability active, of no purchase in t, expected purchases in t): equations 18–22 and 41 of the note."""
    r, alpha, s, beta = (parameters[name] for name in ("r", "alpha", "s", "beta"))

    scale = (r + x) * np.log(alpha + T) + s * np.log(beta + T)  # else powers of large parameters overflow

    def likelihood_parts(to: Floats) -> tuple[Floats, Floats]:
        """Of being active at a time, and of having dropped out before; both in terms of being active at T."""
        at = np.exp(scale - (r + x) * np.log(alpha + to) - s * np.log(beta + to))
        larger, power = max(alpha, beta), s + 1 if alpha >= beta else r + x
        whole = r + s + x

        def term(u: Floats) -> Floats:
            gap = abs(alpha - beta) / (larger + u)
            return np.asarray(
                np.exp(scale - whole * np.log(larger + u) + np.log(hyp2f1(whole, power, whole + 1, gap))),
                float,
            )

        return at, s / whole * (term(t_x) - term(to))

    active, gone = likelihood_parts(T)
    later, gone_later = likelihood_parts(T + t)
    probability = active / (active + gone)
    silent = (later + gone_later) / (active + gone)
    expected = (r + x) * (beta + T) / ((alpha + T) * (s - 1)) * (1 - ((beta + T) / (beta + T + t)) ** (s - 1))
    return probability, silent, expected * probability


def _bg_nbd(
    parameters: Mapping[str, float], x: Floats, t_x: Floats, T: Floats, t: float
) -> tuple[Floats, Floats, Floats]:
    """The same for BG/NBD: equations 6, 10 and 11 of Fader, Hardie and Lee (2005)."""
    r, alpha, a, b = (parameters[name] for name in ("r", "alpha", "a", "b"))
    odds = np.where(
        x > 0, a / (b + np.maximum(x, 1) - 1) * np.exp((r + x) * np.log((alpha + T) / (alpha + t_x))), 0.0
    )
    probability = 1 / (1 + odds)
    silent = 1 - probability + probability * ((alpha + T) / (alpha + T + t)) ** (r + x)
    z = t / (alpha + T + t)
    unfinished = ((alpha + T) / (alpha + T + t)) ** (r + x) * hyp2f1(r + x, b + x, a + b + x - 1, z)
    return probability, silent, (a + b + x - 1) / (a - 1) * (1 - unfinished) * probability


def _mbg_cnbd_k(
    parameters: Mapping[str, float], x: Floats, t_x: Floats, T: Floats, t: float
) -> tuple[Floats, Floats, Floats]:
    """The same for MBG/CNBD-k, customer by customer: Platzer and Reutterer (2016), with no approximation."""
    histories = zip(x.tolist(), t_x.tolist(), T.tolist(), strict=True)
    found = [_mbg_cnbd_k_of(parameters, *history, t) for history in histories]
    active, silent, expected = np.array(found).reshape(len(x), 3).T
    return active, silent, expected


def _mbg_cnbd_k_of(
    parameters: Mapping[str, float], x: float, t_x: float, T: float, t: float
) -> tuple[float, float, float]:
    r, alpha, a, b = (parameters[name] for name in ("r", "alpha", "a", "b"))
    k = int(parameters["k"])
    shape, stages = r + k * x, np.arange(k)
    # (rho)_j / j!
    log_rising = gammaln(shape + stages) - gammaln(shape) - gammaln(stages + 1)

    def weights(to: float) -> Floats:
        """Of so many stages passed by a time, beside having dropped out at the last purchase."""
        with np.errstate(divide="ignore", invalid="ignore"):  # nobody has passed a stage who has just bought
            log_power = np.where(stages > 0, stages * np.log((to - t_x) / (alpha + to)), 0.0)
        kept = (b + x) / a  # B(a, b + x + 1) / B(a + 1, b + x)
        return np.asarray(
            kept * np.exp(log_rising + log_power - shape * np.log((alpha + to) / (alpha + t_x)))
        )

    now, then = weights(T), weights(T + t)
    active = now.sum() / (1 + now.sum())
    silent = (1 + then.sum()) / (1 + now.sum())
    q, stays, expected = t / (alpha + T + t), 1.0, 0.0
    for purchase in range(1, 10_000):
        chances = betainc(purchase * k - stages, shape + stages, q)
        chance = float((now / now.sum() * chances).sum())
        expected += stays * chance
        stays *= (b + x + purchase) / (a + b + x + purchase)
        if chance < 1e-15:
            break
    return active, silent, active * expected


def _recalibrated(
    parameters: Mapping[str, Any],
    x: Floats,
    t_x: Floats,
    T: Floats,
    t: float,
    unit_days: float,
    *recent: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Pareto/NBD with the corrections of docs/scores.md."""
    horizon = parameters["horizon_days"] / unit_days
    active, silent_h, expected_h = _pareto_nbd(parameters, x, t_x, T, horizon)
    _, silent_t, expected_t = _pareto_nbd(parameters, x, t_x, T, t)
    _, silent_u, expected_u = _pareto_nbd(parameters, x, t_x, T, min(t, horizon))
    risk = np.clip(silent_h, 1e-12, 1 - 1e-12)
    gap_days = (t_x * unit_days + parameters["typical_gap_days"]) / (x + 1)
    rate = (parameters["r"] + x) / (parameters["alpha"] + T)
    features = {
        "log_expected": np.log(np.maximum(expected_h, 1e-12)),
        "logit": np.log((1 - risk) / risk),
        "log_recency": np.log(1 + (T - t_x) * unit_days),
        "log_recency_over_gap": np.log((1 + (T - t_x) * unit_days) / gap_days),
    }
    for window, count in zip(RECENT_DAYS, recent, strict=True):
        usual = rate * np.minimum(window / unit_days, T)
        features[f"log_days_{window}d"] = np.log(1 + count)
        features[f"log_pace_{window}d"] = np.log((1 + count) / (1 + usual))
    c = np.full(len(x), float(parameters["expected_intercept"]))
    d = np.full(len(x), float(parameters["buys_intercept"]))
    for name, values in features.items():
        own = parameters["features"][name]
        within = np.clip(values, own["least"], own["most"])
        c += own["expected"] * within
        d += own["buys"] * within
    silent = np.minimum(silent_t / (silent_u + (1 - silent_u) * np.exp(d)), 1)
    expected = expected_t + (np.exp(c) - 1) * expected_u
    return active, silent, np.maximum(expected, 1 - silent)


def _metrics(
    frame: pd.DataFrame, lifetime: pd.Series[float], model: Mapping[str, Any], day: int
) -> pd.DataFrame:
    """The thirteen metrics, rounded to six decimals; missing where not defined."""
    has_order = frame["order_count"] > 0
    orders = frame["order_count_365d"]
    cost = frame["touch_cost_365d"] + frame["refund_cost_365d"]
    tenure: pd.Series[float] = (day - frame["first_order_day"]).astype(float)
    revenue = frame["revenue_365d"]
    is_long_enough = has_order & (tenure >= 90) & (revenue > 0)
    growth = (frame["revenue_90d"] / 90) / (revenue / (tenure + 1).clip(upper=365)).where(is_long_enough)
    metrics = pd.DataFrame(
        {
            "recency_days": (day - frame["last_order_day"]).where(has_order),
            "order_count_365d": orders,
            "revenue_365d": revenue / 1e6,
            "margin_365d": frame["margin_365d"] / 1e6,
            "average_order_value_365d": (frame["counted_total_365d"] / 1e6 / orders.where(orders > 0)),
            "customer_lifetime_value_365d": lifetime.round(6),
            "weighted_engagement_90d": frame["weighted_engagement"],
            "consent_breadth": frame["consent_breadth"],
            "cost_to_serve_ratio": _ratio(cost, revenue),
            "cost_to_acquire_ratio": _ratio(frame["cost_to_acquire"], frame["margin"]),
            "declared_intent": np.nan,
            "growth": growth.clip(-10, 10),
        },
        index=frame.index,
    ).astype(float)
    metrics = metrics.round(6)
    ahead = _curve(metrics["weighted_engagement_90d"], model) - _curve(metrics["revenue_365d"], model)
    metrics["engagement_ahead_of_spend"] = ahead.clip(lower=0).round(6)
    return metrics


def _ratio(cost: pd.Series[Any], brought: pd.Series[Any]) -> pd.Series[float]:
    """Cost against what came in, at most 10; 0 without cost."""
    ratio = (cost / brought.where(brought > 0)).fillna(10).clip(upper=10)
    return ratio.where(cost > 0, 0.0)


def _curve(metric: pd.Series[Any], model: Mapping[str, Any]) -> pd.Series[float]:
    """Points by the metric's breakpoints."""
    part = model["metrics"][metric.name]
    at, points = zip(*part["breakpoints"], strict=True)
    found = np.interp(metric.to_numpy(float), at, points)
    return pd.Series(np.where(metric.isna(), part["missing"], found), index=metric.index)


def _scores(metrics: pd.DataFrame, model: Mapping[str, Any]) -> pd.DataFrame:
    """Weighted means of points per group, and of the groups, cost counted inverted."""
    points = pd.DataFrame({name: _curve(metrics[name], model).round(6) for name in GROUP_OF})
    shares = pd.Series({name: float(model["metrics"][name]["weight"]) for name in GROUP_OF})
    scores = pd.DataFrame(index=metrics.index)
    value = pd.Series(0.0, index=metrics.index)
    for group, weight in model["groups"].items():
        of_group = shares[[name for name in GROUP_OF if GROUP_OF[name] == group]]
        scores[group] = (points[of_group.index] * (of_group / of_group.sum())).sum(axis=1)
        good = 100 - scores[group] if group == "cost" else scores[group]
        value += weight / sum(model["groups"].values()) * good
    return scores.assign(value=value).round(6)
