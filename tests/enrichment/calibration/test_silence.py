"""Warnings: the window of silence comes from gaps between purchases, the limits from the risks of those within it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ebbtide.testing.records import day, model, order
from enrichment.calibration.rules import silence
from enrichment.calibration.rules.newcomers import newcomers
from enrichment.calibration.rules.silence import (
    LEFT_TO_THE_HISTORY,
    Contact,
    SilenceFit,
    SilenceWanted,
    fit_silence,
    purchase_gaps,
    window_of_gaps,
)
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import Model
from enrichment.scoring.scores import score
from tests.enrichment.calibration.population import cdnow, document, shop, snapshots

PARETO_NBD = {"purchases": {"family": "pareto_nbd", "r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}}
CUT = "1997-09-30"


@pytest.fixture(scope="module")
def at_cut() -> Snapshot:
    """The CDNOW sample at the end of its calibration period."""
    (snapshot,) = snapshots(cdnow(), CUT)
    return snapshot


def fitted(snapshot: Snapshot, wanted: SilenceWanted = LEFT_TO_THE_HISTORY, **changes: Any) -> SilenceFit:
    return fit_silence(document(lifetime_value=PARETO_NBD, **changes), snapshot, wanted)


def risks_within_the_window(found: SilenceFit, snapshot: Snapshot) -> np.ndarray[Any, Any]:
    """Silence risks of those who bought within the window, by the fitted model."""
    by = Model.model_validate(found.document)
    scored = score(snapshot.features(by), by)
    assert by.lifecycle.window_days is not None
    return scored.silence_risk[scored.recency_days < by.lifecycle.window_days]


def of_risks(
    monkeypatch: pytest.MonkeyPatch, at_cut: Snapshot, risks: list[float], newcomer: float = 0.0
) -> SilenceFit:
    """What is fitted where the customers within the window have these risks, again and again, and newcomers this."""

    def scored(features: Any, by: Model) -> Any:
        found = score(features, by)
        return replace(found, silence_risk=np.resize(risks, len(found.silence_risk)))

    monkeypatch.setattr(silence, "score", scored)
    monkeypatch.setattr(
        silence, "newcomers", lambda by, days: SimpleNamespace(silence_risk=np.full(days + 1, newcomer))
    )
    return fitted(at_cut, SilenceWanted(120))


def test_gaps_are_the_days_between_purchase_days_of_one_customer() -> None:
    """Two orders of one day are one purchase day; a customer with one has no gap."""
    events = [
        order("2025-01-01", "5.00", "a1", customer_id="a"),
        order("2025-01-01", "5.00", "a2", customer_id="a"),
        order("2025-01-31", "5.00", "a3", customer_id="a"),
        order("2025-03-02", "5.00", "a4", customer_id="a"),
        order("2025-01-05", "5.00", "b1", customer_id="b"),
        order("2025-01-05", "5.00", "c1", customer_id="c"),
        order("2025-01-12", "5.00", "c2", customer_id="c"),
    ]
    (snapshot,) = snapshots(events, "2025-06-01")
    assert sorted(purchase_gaps(snapshot).tolist()) == [7, 30, 30]


@pytest.mark.parametrize(
    ("gaps", "window_days"),
    [([7] * 100, 30), ([30] * 100, 30), ([31] * 100, 60), ([7] * 89 + [100] * 11, 120), ([900] * 100, 360)],
)
def test_the_window_is_longer_than_nine_gaps_in_ten_in_whole_steps(gaps: list[int], window_days: int) -> None:
    """Steps of 30 days, 360 at most."""
    assert window_of_gaps(np.array(gaps)) == window_days


def test_the_window_follows_the_gaps_of_the_history(at_cut: Snapshot) -> None:
    """Oracle: the gaps, counted from the records."""
    days: dict[str, set[int]] = {}
    for event in cdnow():
        if event.occurred_at_us // 86_400_000_000 <= day(CUT):
            days.setdefault(event.customer_id, set()).add(event.occurred_at_us // 86_400_000_000)
    gaps = [after - before for own in days.values() for before, after in pairwise(sorted(own))]
    assert fitted(at_cut).report["window_days"] == window_of_gaps(np.array(gaps))


def test_a_window_that_is_asked_for_or_there_already_is_kept(at_cut: Snapshot) -> None:
    """What was asked for comes before what the model has, and that before the rhythm."""
    has_window: dict[str, Any] = {
        "lifecycle": {"window_days": 77, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5},
        "hysteresis": {"silence_risk_margin": 0.01},
    }
    assert fitted(at_cut, **has_window).report["window_days"] == 77
    assert fitted(at_cut, SilenceWanted(window_days=50), **has_window).report["window_days"] == 50


def test_too_few_gaps_leave_the_model_as_it_was() -> None:
    """With the reason; warnings go by churn risk then."""
    (snapshot,) = snapshots([order("2025-01-01", customer_id=str(n)) for n in range(50)], "2025-06-01")
    before = document(lifetime_value=PARETO_NBD)
    found = fit_silence(before, snapshot, LEFT_TO_THE_HISTORY)
    assert found.document == before
    assert found.report["action"] == "kept"
    assert "gaps" in found.warnings[0]
    assert Model.model_validate(found.document).lifecycle.window_days is None


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_share_that_is_asked_for_is_met_by_as_many_as_have_a_place(at_cut: Snapshot, share: float) -> None:
    """Who ties with the first one out is out too; oracle: counting."""
    found = fitted(at_cut, SilenceWanted(120, share, share / 2))
    risk = risks_within_the_window(found, at_cut)
    limit, lapsed = found.report["at_risk_silence_risk"], found.report["lapsed_silence_risk"]
    first_out = np.sort(risk)[::-1][int(share * len(risk))]
    assert np.count_nonzero(risk >= limit) <= share * len(risk)
    assert np.count_nonzero(risk >= limit) == np.count_nonzero(risk > first_out)
    assert np.count_nonzero(risk >= lapsed) <= share / 2 * len(risk)
    assert found.report["at_risk_share"] == pytest.approx(np.mean(risk >= limit), abs=1e-6)


@pytest.mark.parametrize("cost", [0.5, 2.0, 6.0])
def test_with_the_cost_of_a_contact_the_limit_is_where_contacts_bring_most(
    at_cut: Snapshot, cost: float
) -> None:
    """Oracle: what every limit there could be would bring, of customers sorted by risk."""
    found = fitted(at_cut, SilenceWanted(120, contact=Contact(cost, 0.2)))
    by = Model.model_validate(found.document)
    scored = score(at_cut.features(by), by)
    is_open = scored.recency_days < 120
    risk, at_stake = scored.silence_risk[is_open], scored.value_at_stake[is_open]
    brought = {limit: (at_stake[risk >= limit] * 0.2 - cost).sum() for limit in np.unique(risk)}
    limit = found.report["at_risk_silence_risk"]
    assert brought[limit] == pytest.approx(max(brought.values()), rel=1e-9)
    assert f"{cost:.2f} a contact" in found.report["limits_reason"]


def test_dearer_contacts_warn_of_fewer(at_cut: Snapshot) -> None:
    """And where none pays, of those of the highest risk only, which a warning says."""
    shares = [
        fitted(at_cut, SilenceWanted(120, contact=Contact(cost, 0.2))).report["at_risk_share"]
        for cost in (0.01, 2.0, 6.0)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]
    none_pays = fitted(at_cut, SilenceWanted(120, contact=Contact(1e6, 0.2)))
    assert any("no contact pays at 1,000,000.00 and 20.0% won back" in told for told in none_pays.warnings)


def test_those_at_risk_are_expected_to_stay_away_more_often_than_all(at_cut: Snapshot) -> None:
    """By a third of the way to certainty, where more than 18% of all do; the limit is the lowest such."""
    found = fitted(at_cut, SilenceWanted(120))
    risk = risks_within_the_window(found, at_cut)
    limit, base = found.report["at_risk_silence_risk"], risk.mean()
    wanted = base + (1 - base) / 3
    assert risk[risk >= limit].mean() >= wanted
    lower = risk[risk < limit].max()
    assert risk[risk >= lower].mean() < wanted
    assert limit < found.report["lapsed_silence_risk"] < 1


def test_a_newcomer_is_not_at_risk_where_most_come_back() -> None:
    """Silent for half of `new`, in a shop whose customers come often."""
    (snapshot,) = snapshots(shop(300), "2024-12-30")
    often = {"purchases": {"family": "pareto_nbd", "r": 1.5, "alpha": 8.0, "s": 0.1, "beta": 50.0}}
    found = fit_silence(document(lifetime_value=often), snapshot, SilenceWanted(90))
    by = Model.model_validate(found.document)
    risk = newcomers(by, by.lifecycle.new_days // 2).silence_risk
    assert risk.max() < by.lifecycle.limits[0]
    assert not found.warnings


def test_the_limit_is_raised_above_a_newcomers_risk_where_enough_warnings_remain(
    monkeypatch: pytest.MonkeyPatch, at_cut: Snapshot
) -> None:
    """6% are above it, of 10% above .3, the limit by precision alone; 6.6% are expected to stay away."""
    found = of_risks(monkeypatch, at_cut, [0.02] * 90 + [0.3] * 4 + [0.6] * 6, newcomer=0.4)
    assert found.report["at_risk_silence_risk"] == pytest.approx(0.4, abs=2e-6)
    assert found.report["limits_reason"] == "at_risk: above the risk of a newcomer after 15 days of silence"
    assert not found.warnings
    kept = of_risks(monkeypatch, at_cut, [0.02] * 90 + [0.3] * 9 + [0.6], newcomer=0.4)
    assert kept.report["at_risk_silence_risk"] == 0.3
    assert "from day 0 of their silence on" in kept.warnings[0]
    # 4%: more than half of the 6% who are expected to stay away, and less than half of those above .3.
    halved = of_risks(monkeypatch, at_cut, [0.02] * 90 + [0.3] * 6 + [0.6] * 4, newcomer=0.4)
    assert halved.report["at_risk_silence_risk"] == 0.3


def test_equal_risks_are_on_the_same_side_of_a_limit(
    monkeypatch: pytest.MonkeyPatch, at_cut: Snapshot
) -> None:
    """One in ten has a risk of .9 and the others of .5: with any of those, the mean falls below the .69 wanted."""
    found = of_risks(monkeypatch, at_cut, [0.9] + [0.5] * 9)
    assert found.report["at_risk_silence_risk"] == 0.9
    assert "90% are expected to stay away" in found.report["limits_reason"]


@pytest.mark.parametrize("risks", [[0.01, 0.2], [0.5, 0.7], [0.9, 0.95, 0.97], [0.98, 0.99, 0.999]])
def test_each_limit_can_be_passed_by_its_margin(
    monkeypatch: pytest.MonkeyPatch, at_cut: Snapshot, risks: list[float]
) -> None:
    """Whatever the business: `at_risk` plus the margin lies below `lapsed`, and `lapsed` plus the margin below 1."""
    by = Model.model_validate(of_risks(monkeypatch, at_cut, risks).document)
    at_risk, lapsed = by.lifecycle.limits
    assert 0 < by.lifecycle_margin < lapsed - at_risk
    assert lapsed + by.lifecycle_margin < 1


def test_where_next_to_nobody_stays_away_no_window_is_fitted(
    monkeypatch: pytest.MonkeyPatch, at_cut: Snapshot
) -> None:
    """Else everyone would be at risk of next to nothing; what was asked for in vain is named."""
    found = of_risks(monkeypatch, at_cut, [0.0])
    assert found.report["action"] == "kept"
    (warning,) = found.warnings
    assert warning.endswith("at_risk and lapsed go by churn risk; not applied: --window-days 120")


def test_too_few_customers_within_the_window_leave_its_limits_as_they_were() -> None:
    """And it is said, since lifetime value was fitted anew."""
    has_window: dict[str, Any] = {
        "lifecycle": {"window_days": 77, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5},
        "hysteresis": {"silence_risk_margin": 0.01},
    }
    (snapshot,) = snapshots([order("2025-01-01", customer_id=str(n)) for n in range(19)], "2025-01-31")
    before = document(lifetime_value=PARETO_NBD, **has_window)
    found = fit_silence(before, snapshot, LEFT_TO_THE_HISTORY)
    assert found.document == before
    assert found.warnings[0].startswith(
        "no window of silence was fitted: only 19 customers have bought within 77 days: the window of 77 days"
    )


def test_where_most_newcomers_do_not_come_back_they_are_at_risk_and_it_is_said(at_cut: Snapshot) -> None:
    """Two thirds of CDNOW's do not buy again within 120 days."""
    found = fitted(at_cut, SilenceWanted(120))
    by = Model.model_validate(found.document)
    assert newcomers(by, 0).silence_risk[0] >= by.lifecycle.limits[0]
    assert any("newcomer" in warning for warning in found.warnings)


def test_a_fitted_model_warns_by_its_window(at_cut: Snapshot) -> None:
    """The document is a model, whose limits are those reported."""
    found = fitted(at_cut)
    by = Model.model_validate(found.document)
    assert by.lifecycle.limits == (
        found.report["at_risk_silence_risk"],
        found.report["lapsed_silence_risk"],
    )
    assert by.lifecycle_margin == found.report["silence_risk_margin"] > 0
    assert model().lifecycle.window_days is None
