"""Scales: points as ranks, cuts as quintiles, limits above every newcomer's risk."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, day, engagement, model, order, refund
from enrichment.calibration.rules.newcomers import newcomers
from enrichment.calibration.rules.quantile_curve import quantile_curve
from enrichment.calibration.rules.scales import Scales, fit_scales
from enrichment.calibration.rules.thresholds import quintile_cuts
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import METRICS, Model
from enrichment.scoring.features import Features
from enrichment.scoring.scores import Scored, score
from enrichment.scoring.standing import EMERGING, HIGH, MEDIUM, candidates
from schemas.events import Event
from tests.enrichment.calibration.population import cdnow, document, shop, snapshots

END = "2024-12-30"


def fitted(events: list[Event], date: str = END) -> tuple[Scales, Snapshot]:
    (snapshot,) = snapshots(events, date)
    return fit_scales(document(), snapshot), snapshot


def scored_by(scales: Scales, snapshot: Snapshot) -> tuple[Features, Scored, Model]:
    by = Model.model_validate(scales.document)
    features = snapshot.features(by)
    return features, score(features, by), by


@pytest.fixture(scope="module")
def cdnow_year() -> tuple[Scales, Snapshot]:
    return fitted(cdnow(), "1997-12-31")


@pytest.fixture(scope="module")
def shop_year() -> tuple[Scales, Snapshot]:
    return fitted(shop(120))


def test_points_are_mid_ranks() -> None:
    """Oracle: scipy.stats.percentileofscore(kind="mean"), at every breakpoint between the two ends."""
    values = np.round(np.random.default_rng(1).lognormal(3.0, 1.0, 1000), 2)
    curve = quantile_curve(values, "more_is_better")
    assert curve[0] == [0.0, 0.0]
    assert curve[-1] == [values.max(), 100.0]
    for value, points in curve[1:-1]:
        assert points == pytest.approx(stats.percentileofscore(values, value, kind="mean"), abs=0.005)


def test_equal_values_share_one_rank() -> None:
    """Seven of ten have 1: below them nobody, so they get half of 70 points."""
    values = np.array([1.0] * 7 + [2.0] * 2 + [9.0])
    assert quantile_curve(values, "more_is_better") == [[0.0, 0.0], [1.0, 35.0], [2.0, 80.0], [9.0, 100.0]]


def test_fewer_days_since_the_last_order_are_better() -> None:
    """From 100 points on the day of an order down to 0 for the longest silence."""
    curve = quantile_curve(np.arange(1.0, 101.0), "less_is_better")
    points = [points for _, points in curve]
    assert (curve[0], curve[-1]) == ([0.0, 100.0], [100.0, 0.0])
    assert points == sorted(points, reverse=True)
    assert curve[7] == [50.0, 50.5]  # 49 of 100 are more recent, one is equal


def test_cost_against_nothing_coming_in_has_all_points_of_cost() -> None:
    """More points of cost are more cost, up to the ratio's cap of 10."""
    curve = quantile_curve(np.linspace(0.01, 0.5, 50), "more_is_costlier")
    assert (curve[0], curve[-1]) == ([0.0, 0.0], [10.0, 100.0])
    half_at_cap = quantile_curve(np.array([0.1] * 20 + [10.0] * 20), "more_is_costlier")
    assert half_at_cap == [[0.0, 0.0], [0.1, 25.0], [10.0, 100.0]]


def test_a_whale_moves_nobody_elses_points() -> None:
    """The largest customer at 10,000 times the median: no breakpoint but the last is another."""
    values = np.sort(np.random.default_rng(2).lognormal(3.0, 1.0, 500))
    with_whale = np.append(values[:-1], 10_000 * np.median(values))
    assert quantile_curve(with_whale, "more_is_better")[:-1] == quantile_curve(values, "more_is_better")[:-1]


@pytest.mark.parametrize("seed", range(5))
def test_quintile_cuts_are_those_of_pandas_qcut(seed: int) -> None:
    """Oracles: pandas.qcut, code by code, where nothing ties; where much does, pandas.cut at the same quantiles."""
    rng = np.random.default_rng(seed)
    distinct = rng.permutation(np.unique(np.round(rng.lognormal(3.0, 1.0, 203), 2)))
    codes = np.searchsorted(quintile_cuts(distinct), distinct, side="left")
    assert codes.tolist() == pd.qcut(distinct, 5, labels=False).tolist()
    tied = rng.poisson(1.2, 500).astype(np.float64)
    cuts = pd.Series(tied).quantile([0.2, 0.4, 0.6, 0.8])
    assert cuts.nunique() < 4
    codes = np.searchsorted(quintile_cuts(tied), tied, side="left")
    expected = pd.cut(tied, [-np.inf, *cuts.unique(), np.inf], labels=False)
    assert stats.rankdata(codes, method="dense").tolist() == stats.rankdata(expected, method="dense").tolist()


def test_a_cut_at_the_smallest_value_separates_it_where_qcut_would_not() -> None:
    """Three of ten have 0: they get a digit of their own; `qcut(duplicates="drop")` puts the ones with them."""
    values = np.array([0.0] * 3 + [1.0] * 7)
    assert quintile_cuts(values) == [0.0, 1.0, 1.0, 1.0]
    assert np.searchsorted(quintile_cuts(values), [0.0, 1.0], side="left").tolist() == [0, 1]
    assert set(pd.qcut(values, 5, labels=False, duplicates="drop")) == {0}


def test_rfm_digits_of_cdnow_are_those_of_pandas_qcut(cdnow_year: tuple[Scales, Snapshot]) -> None:
    """Oracle: pandas.qcut of recency and revenue over all 2,357 customers; cuts of order counts coincide."""
    features, scored, by = scored_by(*cdnow_year)
    recent, monetary = scored.rfm // 100, scored.rfm % 10
    assert recent.tolist() == pd.qcut(scored.recency_days, 5, labels=[5, 4, 3, 2, 1]).tolist()
    assert monetary.tolist() == (1 + pd.qcut(features.revenue_365d_micros, 5, labels=False)).tolist()
    assert by.rfm.order_count_365d[0] == by.rfm.order_count_365d[1]
    assert cdnow_year[0].report["rfm"]["tied"] == ["order_count_365d"]
    assert set((scored.rfm // 10 % 10).tolist()) == {1, 3, 4, 5}


def test_points_of_calibrated_metrics_spread_evenly(cdnow_year: tuple[Scales, Snapshot]) -> None:
    """Of those who have any revenue, a tenth lies in each ten points, give or take what ties."""
    _, scored, _ = scored_by(*cdnow_year)
    revenue = METRICS.index("revenue_365d")
    points = scored.points[scored.metrics[:, revenue] > 0, revenue]
    shares = np.histogram(points, bins=np.arange(0, 101, 10))[0] / len(points)
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.02)


def test_what_nobody_has_keeps_its_scale_and_the_report_says_so(cdnow_year: tuple[Scales, Snapshot]) -> None:
    """CDNOW has no engagement, consents or costs."""
    scales, _ = cdnow_year
    kept = {
        name: told["reason"] for name, told in scales.report["metrics"].items() if told["action"] == "kept"
    }
    assert kept == {
        "weighted_engagement_90d": "all zero: kept as it was",
        "consent_breadth": "all zero: kept as it was",
        "cost_to_serve_ratio": "all zero: kept as it was",
        "cost_to_acquire_ratio": "all zero: kept as it was",
        "declared_intent": "points already: kept as it was",
        "engagement_ahead_of_spend": "all zero: kept as it was",
    }
    for name in kept:
        assert scales.document["metrics"][name] == document()["metrics"][name]
    assert scales.warnings == [
        "scales kept as they were, because the history says too little about them: weighted_engagement_90d, "
        "consent_breadth, cost_to_serve_ratio, cost_to_acquire_ratio, engagement_ahead_of_spend"
    ]


def test_engagement_ahead_of_spend_is_scaled_by_the_new_points(shop_year: tuple[Scales, Snapshot]) -> None:
    """The median of those who are ahead gets about 50 points, under the curves that were fitted before it."""
    scales, snapshot = shop_year
    _, scored, _ = scored_by(scales, snapshot)
    at = METRICS.index("engagement_ahead_of_spend")
    ahead = scored.metrics[:, at] > 0
    assert scales.report["metrics"]["engagement_ahead_of_spend"]["above_zero"] == ahead.sum() >= 20
    assert np.median(scored.points[ahead, at]) == pytest.approx(50, abs=5)


def test_no_newcomer_is_at_risk(cdnow_year: tuple[Scales, Snapshot]) -> None:
    """From the day of the first order until `new` ends, by the rule as it is and made harder."""
    scales, _ = cdnow_year
    by = Model.model_validate(scales.document)
    risk = newcomers(by, by.lifecycle.new_days).churn_risk
    assert risk.max() < by.lifecycle.at_risk_churn_risk - by.hysteresis.churn_risk_margin
    assert by.lifecycle.lapsed_churn_risk - by.lifecycle.at_risk_churn_risk > by.hysteresis.churn_risk_margin
    partition = LocalStream(by)
    partition.take(order("2025-01-01", "20.00"))
    assert partition.standing()[2] == "new"
    told = scales.report["lifecycle"]
    changes = partition.pass_midnight("2026-01-01")
    lives = {
        change["current"]: change["as_of"][:10] for change in changes if change["dimension"] == "lifecycle"
    }
    assert list(lives) == ["active", "at_risk", "lapsed"]
    silent_days = day(lives["at_risk"]) - day("2025-01-01")
    assert 0 <= silent_days - told["one_order_at_risk_after_days"] < 60  # the margin comes on top


@pytest.mark.parametrize(("r", "alpha"), [(0.05, 50.0), (0.005, 500.0), (30.0, 20.0)])
def test_limits_of_risk_fit_any_rate_of_return(r: float, alpha: float) -> None:
    """Where few newcomers return, and where nearly all do: limits lie above a newcomer's risk, in order."""
    lifetime = document()["lifetime_value"]
    lifetime["purchases"].update(r=r, alpha=alpha)
    (snapshot,) = snapshots(shop(30), END)
    scales = fit_scales(document(lifetime_value=lifetime), snapshot)
    by = Model.model_validate(scales.document)
    newcomer = newcomers(by, by.lifecycle.new_days).churn_risk.max()
    limits = (newcomer, by.lifecycle.at_risk_churn_risk, by.lifecycle.lapsed_churn_risk, 1.0)
    assert (np.diff(limits) >= 2 * by.hysteresis.churn_risk_margin - 2e-6).all()
    assert by.hysteresis.churn_risk_margin > 0
    limit = by.segments.high_churn_risk_limit
    assert limit <= by.lifecycle.at_risk_churn_risk
    _, scored, _ = scored_by(scales, snapshot)
    risk_at_the_top = scored.churn_risk[scored.lifetime_value_score >= by.segments.high]
    assert np.mean(risk_at_the_top <= limit) >= 0.6 or limit == by.lifecycle.at_risk_churn_risk


def test_where_no_newcomer_returns_the_limits_stay_and_a_warning_says_so() -> None:
    """A probability of return below one in 10,000 leaves no room for limits."""
    lifetime = document()["lifetime_value"]
    lifetime["purchases"].update(r=1e-6, alpha=1e4)
    (snapshot,) = snapshots(shop(30), END)
    scales = fit_scales(document(lifetime_value=lifetime), snapshot)
    assert scales.document["lifecycle"] == document()["lifecycle"]
    assert any(warning.startswith("lifecycle keeps its limits") for warning in scales.warnings)


def test_segments_hold_the_shares_that_the_report_tells(shop_year: tuple[Scales, Snapshot]) -> None:
    """`high` and `medium` within their bounds, some `emerging`; counted from the standings themselves."""
    scales, snapshot = shop_year
    features, scored, by = scored_by(scales, snapshot)
    assert (features.order_count > 0).all()
    held = Counter(candidates(features, scored, by).plain[:, 0].tolist())
    told = scales.report["segments"]
    shares = [told["share_high"], told["share_medium"], told["share_emerging"]]
    assert [held[rank] / len(snapshot) for rank in (HIGH, MEDIUM, EMERGING)] == pytest.approx(
        shares, abs=1e-4
    )
    assert 0.03 <= shares[0] <= 0.25
    assert 0.20 <= shares[0] + shares[1] <= 0.61
    assert shares[2] > 0


def test_most_prospects_are_not_emerging() -> None:
    """Where all prospects have visited once, a visit makes nobody `emerging` but those who visited last."""
    visits = [
        engagement("visited", f"2024-12-{1 + number % 30:02d}", customer_id=f"p{number}", channel="web")
        for number in range(90)
    ]
    scales, snapshot = fitted([*shop(60), *visits])
    features, scored, by = scored_by(scales, snapshot)
    segment = candidates(features, scored, by).plain[:, 0]
    without_order = features.order_count == 0
    assert 0.1 <= np.mean(segment[without_order] == EMERGING) <= 0.25
    assert features.day[0] - features.last_engaged_day[without_order & (segment == EMERGING)].min() <= 8


def test_a_customer_can_still_rise_to_the_top_of_every_dimension(shop_year: tuple[Scales, Snapshot]) -> None:
    """The best customer is `high` and `strategic` also by the rules made harder."""
    features, scored, by = scored_by(*shop_year)
    hard = candidates(features, scored, by).hard
    assert (hard[:, 0] == HIGH).any()
    assert (hard[:, 1] == 0).any()


def test_nobody_needs_more_points_than_there_are() -> None:
    """Of 20 customers a twentieth is one, with all 100 points: `high` begins two margins lower."""
    whale = [order(f"2024-{month:02d}-01", "320000.00", customer_id="whale") for month in (3, 6, 9)]
    scales, _ = fitted([*shop(19), *whale])
    assert scales.document["segments"]["high"] == 96.0
    assert scales.report["segments"]["share_high"] == 0.05


def test_declared_answers_make_emerging_however_many_declare() -> None:
    """Where most declared a budget, a threshold by shares would ask for more than an answer can give."""
    declared = [
        engagement("declared", "2024-12-01", customer_id=f"{number:04d}", declared={"budget": "high"})
        for number in range(60)
    ]
    scales, snapshot = fitted([*shop(60), *declared])
    features, scored, by = scored_by(scales, snapshot)
    assert by.segments.emerging_potential == 40.0
    assert set(candidates(features, scored, by).plain[:, 0].tolist()) == {HIGH, MEDIUM, EMERGING}


def test_tiers_are_left_to_capacities_where_there_are_some() -> None:
    """Thresholds that were made from capacities stay."""
    (snapshot,) = snapshots(shop(40), END)
    with_capacities = document(tiers={"capacities": {"strategic": "5"}})
    scales = fit_scales(with_capacities, snapshot)
    assert scales.document["tiers"] == with_capacities["tiers"]
    assert scales.report["tiers"]["action"] == "kept"


def test_calibration_tells_how_each_metric_is_spread(cdnow_year: tuple[Scales, Snapshot]) -> None:
    """Oracle: numpy's deciles of the scored metrics."""
    scales, snapshot = cdnow_year
    _, scored, by = scored_by(scales, snapshot)
    assert by.calibration is not None
    assert (by.calibration.until, by.calibration.customers) == ("1997-12-31", 2357)
    for at, name in enumerate(METRICS):
        column = scored.metrics[:, at]
        defined = column[~np.isnan(column)]
        reference = by.calibration.metrics[name]
        assert reference.missing == pytest.approx(1 - len(defined) / 2357, abs=1e-6)
        expected = np.percentile(defined, range(0, 101, 10)).tolist() if len(defined) else []
        assert reference.deciles == pytest.approx(expected, abs=1e-6)


def test_fitting_scales_changes_nothing_else_and_nothing_given(shop_year: tuple[Scales, Snapshot]) -> None:
    """The same document and snapshot give the same result; what is not about scales stays word for word."""
    scales, snapshot = shop_year
    given = document()
    again = fit_scales(given, snapshot)
    assert given == document()
    assert (again.document, again.report) == (scales.document, scales.report)
    changed = {key for key in given if given[key] != scales.document[key]}
    assert changed == {"metrics", "rfm", "segments", "tiers", "lifecycle", "calibration"}
    for name in METRICS:
        told = {**scales.document["metrics"][name], "breakpoints": None}
        assert told == {**given["metrics"][name], "breakpoints": None}


def five_customers() -> list[Event]:
    return [order(f"2024-{turn + 3:02d}-01", f"{turn + 5}.00", customer_id=f"{turn}") for turn in range(5)]


def one_order_each() -> list[Event]:
    return [order("2024-06-01", "10.00", f"{number}", customer_id=f"{number}") for number in range(50)]


def only_returns() -> list[Event]:
    return [refund("2024-06-01", f"{number}", "10.00", customer_id=f"{number}") for number in range(50)]


def a_whale() -> list[Event]:
    whale = [order(f"2024-{month:02d}-01", "320000.00", customer_id="whale") for month in (3, 6, 9)]
    return [*shop(50), *whale]


def prospects() -> list[Event]:
    return [
        engagement("visited", "2024-12-01", customer_id=f"{number}", channel="web") for number in range(30)
    ]


def net_negative() -> list[Event]:
    back = [
        refund("2024-12-02", f"{number:04d}/0", "9000.00", customer_id=f"{number:04d}")
        for number in range(40)
    ]
    return [*shop(40), *back]


def only_consents() -> list[Event]:
    return [consent("2024-12-01", "email", True, customer_id=f"{number}") for number in range(30)]


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        (five_customers, set(METRICS)),
        (one_order_each, set(METRICS)),
        (only_returns, set(METRICS)),
        (prospects, set(METRICS)),
        (only_consents, set(METRICS)),
        (net_negative, None),
        (a_whale, None),
    ],
)
def test_any_history_gives_a_model_without_nan(events: object, kept: set[str] | None) -> None:
    """Of five, one order each, only returns, prospects, debtors, a whale: valid, finite, with reasons."""
    assert callable(events)
    scales, snapshot = fitted(events())
    by = Model.model_validate(scales.document)
    json.dumps([scales.document, scales.report, scales.warnings], allow_nan=False)
    for told in (
        *scales.report["metrics"].values(),
        *(scales.report[key] for key in ("rfm", "segments", "tiers")),
    ):
        assert told["action"] in ("fitted", "kept")
        assert told["reason"]
    if kept is not None:
        assert {name for name, told in scales.report["metrics"].items() if told["action"] == "kept"} == kept
        assert by.segments == model().segments
        assert scales.warnings
    scored = score(snapshot.features(by), by)
    assert ((scored.scores >= 0) & (scored.scores <= 100)).all()


def test_a_history_without_customers_is_refused() -> None:
    """In one clear line."""
    with pytest.raises(ValueError, match="no customer"):
        fitted([])


def test_one_whale_is_not_the_only_customer_who_counts() -> None:
    """A customer of 10,000 times the median leaves `high` at 5% and `medium` at 20% of the customers at least."""
    scales, snapshot = fitted(a_whale())
    features, scored, by = scored_by(scales, snapshot)
    points = scored.lifetime_value_score
    assert np.mean(points >= by.segments.high) >= 0.05
    assert np.mean(points >= by.segments.medium) >= 0.20
    assert (features.order_count > 0).all()
