"""Recalibrated Pareto/NBD against its own formula written out, and in a stream."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import cancellation, day, model, order
from enrichment.deciding.decider import Decider
from enrichment.deciding.long_silence import unchanged_until
from enrichment.deciding.reactivation import awaited_until
from enrichment.lifetime.lifetime_value import Floats, ParetoNBD, predict, predict_with_window
from enrichment.lifetime.recalibrated import FEATURES, Correction, RecalibratedParetoNBD
from enrichment.scoring.features import build_features, repeat_days_within

BASE = ParetoNBD(0.553, 10.578, 0.606, 11.669)
NONE = RecalibratedParetoNBD(
    base=BASE,
    days_per_unit=7.0,
    horizon_days=90,
    typical_gap_days=40.0,
    expected_intercept=0.0,
    buys_intercept=0.0,
    features={name: Correction(-20.0, 20.0, 0.0, 0.0) for name in FEATURES},
)
"""Pareto/NBD as it is, in weeks."""
SOME = replace(
    NONE,
    expected_intercept=-0.2,
    buys_intercept=0.1,
    features={
        "log_expected": Correction(-6.0, 3.0, -0.1, 0.05),
        "logit": Correction(-6.0, 4.0, -0.05, -0.3),
        "log_recency": Correction(0.0, 5.2, -0.08, -0.1),
        "log_recency_over_gap": Correction(-4.0, 4.0, 0.03, -0.05),
        "log_days_30d": Correction(0.0, 2.5, 0.05, 0.1),
        "log_days_90d": Correction(0.0, 3.2, 0.1, 0.2),
        "log_days_180d": Correction(0.0, 3.6, 0.15, 0.3),
        "log_pace_30d": Correction(-1.5, 1.5, 0.02, 0.04),
        "log_pace_90d": Correction(-1.8, 1.2, 0.05, 0.1),
        "log_pace_180d": Correction(-2.0, 1.0, -0.1, 0.05),
    },
)


def document(family: RecalibratedParetoNBD) -> dict[str, Any]:
    """The family as `purchases` of a model file."""
    parts = asdict(family)
    del parts["days_per_unit"]
    return {"family": "recalibrated", **parts.pop("base"), **parts}


def grid() -> tuple[Floats, Floats, Floats, Floats]:
    """(x, t_x, T, recent) of one-time to heavy buyers, after silences from none to years; times in weeks."""
    rows = []
    for x, t_x in ((0, 0.0), (1, 0.4), (1, 40.0), (6, 30.0), (60, 70.0)):
        for silence in (0.0, 1.0, 5.0, 20.0, 80.0, 500.0):
            shares = (max(0.0, min(days / 7.0, t_x + silence) - silence) for days in (30, 90, 180))
            counts = [math.floor(x * share / t_x) if t_x else 0 for share in shares]
            rows.append([x, t_x, t_x + silence, *counts])
    table = np.array(rows, np.float64)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3:]


@pytest.mark.parametrize("weeks", [0.0, 2.0, 90 / 7, 52.0])
def test_without_corrections_it_is_pareto_nbd(weeks: float) -> None:
    """Oracle: Pareto/NBD, to rounding; the first day of all, a long silence and a heavy buyer are in the grid."""
    x, t_x, T, recent = grid()
    for found, expected in zip(
        predict(NONE, x, t_x, T, weeks, recent), predict(BASE, x, t_x, T, weeks), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("days", [14, 90, 365])
def test_a_prediction_is_the_formula_written_out(days: int) -> None:
    """Oracle: the module's two equations and the words of each feature, customer by customer, in plain floats."""
    x, t_x, T, recent = grid()
    active, silent, expected = predict(SOME, x, t_x, T, days / 7.0, recent)
    np.testing.assert_array_equal(active, predict(BASE, x, t_x, T, days / 7.0)[0])
    for row in range(len(x)):
        found = _by_hand(x[row], t_x[row], T[row], recent[row], days)
        assert (silent[row], expected[row]) == pytest.approx(found, rel=1e-9, abs=1e-12)


def _by_hand(x: float, t_x: float, T: float, recent: Floats, days: int) -> tuple[float, float]:
    def base(within_days: float) -> tuple[float, float]:
        _, silent, expected = predict(BASE, x, t_x, T, within_days / 7.0)
        return float(silent), float(expected)

    silent_h, expected_h = base(90)
    silence_days, gap_days = (T - t_x) * 7.0, (t_x * 7.0 + 40.0) / (x + 1)
    values = {
        "log_expected": math.log(max(expected_h, 1e-12)),
        "logit": math.log((1 - silent_h) / silent_h) if 0.0 < silent_h < 1.0 else 30.0,
        "log_recency": math.log(1 + silence_days),
        "log_recency_over_gap": math.log((1 + silence_days) / gap_days),
    }
    rate_per_day = (BASE.r + x) / ((BASE.alpha + T) * 7.0)
    for window, count in zip((30, 90, 180), recent, strict=True):
        values[f"log_days_{window}d"] = math.log(1 + count)
        usual = rate_per_day * min(window, T * 7.0)
        values[f"log_pace_{window}d"] = math.log((1 + count) / (1 + usual))
    c, d = SOME.expected_intercept, SOME.buys_intercept
    for name, value in values.items():
        own = SOME.features[name]
        seen = min(max(value, own.least), own.most)
        c, d = c + own.expected * seen, d + own.buys * seen
    silent_t, expected_t = base(days)
    silent_u, expected_u = base(min(days, 90))
    silent = silent_t / (silent_u + (1 - silent_u) * math.exp(d))
    return silent, max(expected_t + (math.exp(c) - 1) * expected_u, 1 - silent)


def test_a_longer_horizon_brings_no_less() -> None:
    """Neither fewer purchases nor a smaller chance of one, also across the horizon of the corrections."""
    x, t_x, T, recent = grid()
    seen = [predict(SOME, x, t_x, T, weeks, recent) for weeks in (0.0, 1.0, 6.0, 12.8, 13.0, 26.0, 52.0)]
    for (_, silent, expected), (_, later_silent, later_expected) in pairwise(seen):
        assert (later_expected >= expected - 1e-12).all()
        assert (later_silent <= silent + 1e-12).all()
        assert (later_expected >= 1.0 - later_silent).all()


def test_a_rows_bits_do_not_depend_on_the_rows_beside_it() -> None:
    """Oracle: each customer alone; and the window in one pass gives what it gives by itself."""
    x, t_x, T, recent = (np.concatenate([column] * 40) for column in grid())
    together = predict_with_window(SOME, x, t_x, T, 52.0, 8.0, recent)
    for row in range(0, len(x), 97):
        alone = predict_with_window(SOME, x[row], t_x[row], T[row], 52.0, 8.0, recent[row])
        assert [float(part) for part in alone] == [float(part[row]) for part in together]
    for found, expected in zip(together, predict(SOME, x, t_x, T, 52.0, recent), strict=False):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(together[3], SOME.probability_of_no_purchase(8.0, x, t_x, T, recent))


def test_after_a_purchase_today_each_window_holds_one() -> None:
    """Oracle: `expected_purchases` with t_x = T and counts of at least one; one-time buyers have no repeat purchase."""
    x, T = np.array([0.0, 3.0, 3.0]), np.array([50.0, 60.0, 60.0])
    known = np.array([[0, 0, 0], [0, 0, 2], [1, 2, 2]], np.float64)
    found = SOME.expected_after_purchase(52.0, x, T, known)
    after = np.array([[0, 0, 0], [1, 1, 2], [1, 2, 2]], np.float64)
    assert found.tolist() == SOME.expected_purchases(52.0, x, T, T, after).tolist()


def test_counts_that_are_missing_are_refused() -> None:
    """A model that looks back does not guess them; Pareto/NBD takes none."""
    with pytest.raises(ValueError, match="needs recent, the purchase days of"):
        predict(SOME, 1.0, 2.0, 3.0, 4.0)
    plain = predict(BASE, 1.0, 2.0, 3.0, 4.0)
    assert plain == predict(BASE, 1.0, 2.0, 3.0, 4.0, [0, 1, 1])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"horizon_days": 0}, "horizon_days"),
        ({"typical_gap_days": 0.0}, "typical_gap_days"),
        ({"buys_intercept": math.nan}, "buys_intercept"),
        ({"features": {}}, "features must have log_expected"),
        (
            {"features": {**document(SOME)["features"], "log_rezency": document(SOME)["features"]["logit"]}},
            "did you mean log_recency",
        ),
        (
            {"features": {**document(SOME)["features"], "logit": asdict(Correction(1.0, 0.0, 0.0, 0.0))}},
            "most must not be below least",
        ),
    ],
)
def test_a_model_file_with_impossible_parameters_is_refused_by_name(
    changed: dict[str, Any], named: str
) -> None:
    """Whatever it is, under `lifetime_value.purchases`."""
    with pytest.raises(ValidationError, match=rf"lifetime_value\.purchases(.|\n)*{named}"):
        model(lifetime_value={"purchases": {**document(SOME), **changed}})


DATES = ("2025-01-01", "2025-01-15", "2025-03-05", "2025-05-20", "2025-06-10")


def test_a_profile_is_scored_by_the_recalibrated_family_of_its_model() -> None:
    """Oracle: `predict` on purchase days counted by hand; day by day, as purchases leave the windows."""
    window = {"window_days": 60, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5}
    stream = LocalStream(
        model(
            lifetime_value={"purchases": document(SOME)},
            lifecycle=window,
            hysteresis={"silence_risk_margin": 0.01},
        )
    )
    stream.take(*(order(date, "20.00", f"o{n}") for n, date in enumerate(DATES)))
    stream.take(order("2025-06-11", "20.00", "back"), cancellation("2025-06-11T13:00:00Z", "back"))
    bought, first = [day(date) for date in DATES], day(DATES[0])
    for until in ("2025-06-20", "2025-07-05", "2025-07-15", "2025-09-08", "2025-12-01"):
        stream.pass_midnight(until)
        traits, today = stream.profiles_at(day(until) * 86_400_000_000)["c"]["traits"], day(until)
        recent = [sum(today - days < on for on in bought[1:]) for days in (30, 90, 180)]
        t_x, T = (bought[-1] - first) / 7.0, (today - first) / 7.0
        active, silent, expected, in_window = predict_with_window(
            SOME, 4.0, t_x, T, 365 / 7.0, 60 / 7.0, recent
        )
        assert traits["probability_active"] == round(float(active), 6)
        assert traits["churn_risk"] == round(float(silent), 6)
        assert traits["silence_risk"] == round(float(in_window), 6)
        assert traits["expected_orders_365d"] == round(float(expected), 6)


def test_purchase_days_of_windows_are_counted_alike_in_rows_and_for_one_customer() -> None:
    """Of every day of a year, before the first order too. Oracle: a count over the dates; the first is in none."""
    used = model(lifetime_value={"purchases": document(SOME)})
    stream = LocalStream(used)
    stream.take(*(order(date, "20.00", f"o{n}") for n, date in enumerate(DATES)))
    snapshot = stream.customers["c"].snapshot()
    days = np.arange(day(DATES[0]), day("2026-01-01"))
    found = build_features([snapshot], np.zeros(len(days), dtype=np.int64), days, used).recent
    again = [day(date) for date in DATES[1:]]
    expected = [[sum(today - n < on <= today for on in again) for n in (30, 90, 180)] for today in days]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(repeat_days_within(snapshot, days), expected)


def test_no_long_silence_is_passed_over() -> None:
    """A regression need not move one way in silence, so each day is looked at."""
    for family in (document(SOME), {"family": "pareto_nbd", **asdict(BASE)}):
        used = model(lifetime_value={"purchases": family})
        stream = LocalStream(used)
        stream.take(order("2025-01-01"))
        stream.pass_midnight("2026-12-31")
        span = day("2030-01-01"), day("2040-01-01")
        passed = unchanged_until(stream.customers["c"], *span, Decider(used, "test"))
        assert passed == (None if family["family"] == "recalibrated" else span[1])


def test_who_may_come_back_alone_is_waited_for_by_counts_of_each_day_to_come() -> None:
    """Oracle: the first later day whose own counts give a chance of a tenth at most, one day after the other."""
    rules = {"own_return": {"within_days": 14, "above": 0.1}}
    used = model(lifetime_value={"purchases": document(SOME)}, reactivation=rules)
    stream = LocalStream(used)
    stream.take(*(order(date, "20.00", f"o{n}") for n, date in enumerate(DATES)))
    bought, today = [day(date) for date in DATES], day("2025-06-20")

    def chance(on: int) -> float:
        recent = [sum(on - days < sale for sale in bought[1:]) for days in (30, 90, 180)]
        t_x, T = (bought[-1] - bought[0]) / 7.0, (on - bought[0]) / 7.0
        return 1.0 - float(SOME.probability_of_no_purchase(2.0, 4.0, t_x, T, recent))

    snapshot = stream.customers["c"].snapshot()
    features = build_features([snapshot], np.zeros(1, dtype=np.int64), np.array([today]), used)
    expected = next(on for on in range(today + 1, today + 400) if chance(on) <= 0.1)
    assert chance(today) > 0.1
    assert expected > today + 1
    assert awaited_until(features, 0, used) == expected
