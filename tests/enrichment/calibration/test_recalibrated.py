"""What earlier cuts say of Pareto/NBD: rows against snapshots of those days, levels, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from enrichment.calibration.choice import fit_candidates
from enrichment.calibration.holdout import accuracy, hold_out, predictions
from enrichment.calibration.recalibrated import (
    EarlierRows,
    _logistic,
    _poisson,
    _regression,
    fit_recalibrated,
)
from enrichment.calibration.snapshot import Histories, Snapshot
from enrichment.lifetime.lifetime_value import ParetoNBD, predict
from enrichment.lifetime.recalibrated import RecalibratedParetoNBD
from tests.enrichment.calibration.histories import FIRST_DAY, Purchases, orders, snapshots
from tests.once import Once

PARETO = ParetoNBD(1.0, 6.0, 0.6, 30.0)


def changing(customers: int, until: int = 420, seed: int = 4) -> Purchases:
    """Customers who each change their pace once, at a day of their own: what three numbers do not show."""
    random = np.random.default_rng(seed)
    purchases = {}
    for number in range(customers):
        on, mine = int(random.integers(0, 60)), []
        changes = int(random.integers(80, 330))
        before, after = random.choice([8.0, 25.0, 60.0], size=2)
        while on <= until:
            mine.append((on, 20.0))
            on += 1 + int(random.exponential(before if on < changes else after))
        purchases[f"c{number:04d}"] = mine
    return purchases


@pytest.fixture(scope="module")
def histories(once: Once) -> tuple[Snapshot, Snapshot]:
    """500 changing customers at day 300, and 90 days later."""
    return once("changing customers", take)


def take() -> tuple[Snapshot, Snapshot]:
    before, after = snapshots(orders(changing(500)), 300, 390)
    return before, after


@pytest.fixture(scope="module")
def fitted(once: Once) -> RecalibratedParetoNBD:
    return once("recalibrated for changing customers", fit)


def fit() -> RecalibratedParetoNBD:
    snapshot = take()[0]
    found = fit_recalibrated(snapshot, Histories.of(snapshot, 7.0), PARETO)
    assert isinstance(found, RecalibratedParetoNBD)
    return found


def test_rows_of_earlier_cuts_are_what_snapshots_of_those_days_held(
    histories: tuple[Snapshot, Snapshot],
) -> None:
    """Oracle: snapshots taken on the days themselves, and the holdout that counts what came after."""
    cuts = np.array([FIRST_DAY + 120, FIRST_DAY + 200])
    rows = EarlierRows.of(histories[0], cuts, 60)
    taken = snapshots(orders(changing(500)), 120, 180, 200, 260)
    for number, (then, later) in enumerate((taken[:2], taken[2:])):
        at_cut = hold_out(then, later, 1.0)
        of_cut = rows.T + _first_days(rows, cuts) == cuts[number]
        for found, expected in (
            (rows.x, at_cut.histories.x),
            (rows.t_x, at_cut.histories.t_x),
            (rows.T, at_cut.histories.T),
            (rows.recent, at_cut.histories.recent),
            (rows.purchases, at_cut.purchases),
        ):
            np.testing.assert_array_equal(found[of_cut], expected)


def _first_days(rows: EarlierRows, cuts: np.ndarray) -> np.ndarray:
    """Rows come by customer, then by cut; everybody is known at both cuts."""
    assert len(rows) == 2 * 500
    return np.tile(cuts, 500) - rows.T


def test_nothing_after_the_snapshots_day_is_looked_at(fitted: RecalibratedParetoNBD) -> None:
    """Oracle: the same history, cut off on the day of the snapshot."""
    ended = {key: [sale for sale in sales if sale[0] <= 300] for key, sales in changing(500).items()}
    (snapshot,) = snapshots(orders(ended), 300)
    assert fit_recalibrated(snapshot, Histories.of(snapshot, 7.0), PARETO) == fitted


def test_totals_stay_those_of_pareto_nbd(
    histories: tuple[Snapshot, Snapshot], fitted: RecalibratedParetoNBD
) -> None:
    """Purchases and buyers expected within the horizon, over everyone. Oracle: Pareto/NBD's own sums."""
    own = Histories.of(histories[0], 7.0)
    columns = own.x, own.t_x, own.T, 90 / 7.0
    _, silent, expected = predict(fitted, *columns, own.recent)
    _, base_silent, base_expected = predict(PARETO, *columns)
    assert expected.sum() == pytest.approx(base_expected.sum(), rel=1e-6)
    assert silent.sum() == pytest.approx(base_silent.sum(), rel=1e-6)


def test_customers_who_changed_their_pace_are_predicted_better(
    histories: tuple[Snapshot, Snapshot], fitted: RecalibratedParetoNBD
) -> None:
    """How much they buy, on 90 days that nothing was fitted to. Oracle: Pareto/NBD fitted by likelihood."""
    held = hold_out(*histories, 7.0)
    pareto = fit_candidates(histories[0], 7.0).models["pareto_nbd"]
    assert isinstance(pareto, ParetoNBD)
    corrected = fit_recalibrated(histories[0], Histories.of(histories[0], 7.0), pareto)
    assert isinstance(corrected, RecalibratedParetoNBD)
    before, after = predictions(pareto, held), predictions(corrected, held)
    old, new = (accuracy(each.expected_purchases, held.purchases) for each in (before, after))
    for measure, sign in (("correlation", 1), ("mean_absolute_error", -1), ("mean_poisson_deviance", -1)):
        assert sign * (new[measure] or 0.0) > sign * (old[measure] or 0.0)


def test_the_unit_of_time_says_nothing(
    histories: tuple[Snapshot, Snapshot], fitted: RecalibratedParetoNBD
) -> None:
    """Oracle: the same family in days."""
    in_days = ParetoNBD(PARETO.r, PARETO.alpha * 7.0, PARETO.s, PARETO.beta * 7.0)
    own = Histories.of(histories[0], 1.0)
    found = fit_recalibrated(histories[0], own, in_days)
    assert isinstance(found, RecalibratedParetoNBD)
    weeks = Histories.of(histories[0], 7.0)
    np.testing.assert_allclose(
        predict(found, own.x, own.t_x, own.T, 365.0, own.recent),
        predict(fitted, weeks.x, weeks.t_x, weeks.T, 365 / 7.0, weeks.recent),
        rtol=1e-6,
    )


def test_what_cannot_be_corrected_is_said(histories: tuple[Snapshot, Snapshot]) -> None:
    """No base, too short a history, and too few who stayed away."""
    snapshot = histories[0]
    own = Histories.of(snapshot, 7.0)
    assert "has no fit" in str(fit_recalibrated(snapshot, own, None))
    (early,) = snapshots(orders(changing(500)), 70)
    assert "too few for an earlier cut" in str(fit_recalibrated(early, Histories.of(early, 7.0), PARETO))
    few = snapshot.only(snapshot.customer_ids[:20])
    assert "who did not are needed" in str(fit_recalibrated(few, Histories.of(few, 7.0), PARETO))


def test_the_regressions_are_scikit_learns(random_seed: int) -> None:
    """Oracles: sklearn's PoissonRegressor, weighted, and LogisticRegression, with the same penalties."""
    rng = np.random.default_rng(random_seed)
    features = rng.normal(size=(2_000, 3))
    eta = features @ [0.5, -0.3, 0.0] - 0.4
    weights = rng.uniform(0.1, 3.0, len(eta))
    rates = rng.poisson(weights * np.exp(eta)) / weights
    poisson = PoissonRegressor(alpha=0.01, solver="newton-cholesky", tol=1e-9, max_iter=300)
    poisson.fit(features, rates, sample_weight=weights)
    found = _regression(_poisson, features, rates, weights, 0.01)
    np.testing.assert_allclose(found, [poisson.intercept_, *poisson.coef_], rtol=1e-6, atol=1e-7)
    bought = rng.random(len(eta)) < expit(eta)
    logistic = LogisticRegression(C=1 / (0.001 * len(eta)), solver="newton-cholesky", tol=1e-9, max_iter=300)
    logistic.fit(features, bought)
    found = _regression(_logistic, features, bought.astype(np.float64), np.ones(len(eta)), 0.001)
    np.testing.assert_allclose(found, [logistic.intercept_[0], *logistic.coef_[0]], rtol=1e-6, atol=1e-7)


def test_a_correction_of_a_degenerate_fit_is_degenerate_too() -> None:
    """Buyers who never stop: Pareto/NBD runs away, and the family on top of it says so."""
    (snapshot,) = snapshots(orders(changing(300, seed=6)), 300)
    candidates = fit_candidates(snapshot, 7.0)
    pareto = candidates.why_not("pareto_nbd")
    if pareto is None:
        candidates = replace(candidates, faults={})
        assert candidates.why_not("recalibrated") is None
    else:
        assert candidates.why_not("recalibrated") == pareto.replace(
            ": ", ": in Pareto/NBD, which it corrects, ", 1
        )
