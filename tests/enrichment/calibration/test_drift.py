"""How far metrics have moved since a calibration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from ebbtide.testing.records import consent, order
from enrichment.calibration.drift import drift, population_stability_index
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import METRICS, Calibration, Model, Reference, load_model
from enrichment.scoring.scores import score
from tests.enrichment.calibration.snapshots import cdnow, snapshots, written

Floats = npt.NDArray[np.float64]


def calibrated_to(snapshot: Snapshot, method: str = "linear") -> Model:
    """The built-in model that keeps how its metrics were spread over this snapshot."""
    values = score(snapshot.features(load_model()), load_model()).metrics
    references = {}
    for at, name in enumerate(METRICS):
        defined = values[~np.isnan(values[:, at]), at]
        deciles = np.quantile(defined, np.arange(11) / 10, method=method).tolist() if len(defined) else []  # type: ignore[call-overload]
        references[name] = Reference(deciles=deciles, missing=1 - len(defined) / len(values))
    calibration = Calibration(until="2025-01-31", customers=len(values), metrics=references)
    return load_model().model_copy(update={"calibration": calibration})


def spending(total_of: Callable[[int], float], customers: int = 400) -> Snapshot:
    """Customers of one order each, on the same day; the n-th spent `total_of(n)`."""
    events = [order("2025-01-10", f"{total_of(at):.2f}", customer_id=f"c{at}") for at in range(customers)]
    (found,) = snapshots(events, "2025-01-31")
    return found


def test_the_index_is_the_sum_over_bins_of_difference_times_log_ratio() -> None:
    """Oracle: by hand, .1 ln 1.2 − .1 ln .8 = 0.040547."""
    index = population_stability_index(np.array([0.6, 0.4]), np.array([0.5, 0.5]), 100, 100)
    assert index == pytest.approx(0.040547, abs=5e-7)


def test_a_bin_that_nobody_is_in_counts_as_half_a_customer() -> None:
    """Oracle: by hand, .5 ln 2 + (.005 − .5) ln .01 = 2.626133; never infinite."""
    index = population_stability_index(np.array([1.0, 0.0]), np.array([0.5, 0.5]), 100, 100)
    assert index == pytest.approx(2.626133, abs=5e-7)


@pytest.mark.parametrize("method", ["linear", "inverted_cdf"])
def test_what_a_model_was_calibrated_to_has_not_drifted(method: str) -> None:
    """On CDNOW, whose counts are full of ties; half a customer's difference is the most."""
    cut, _ = cdnow()
    found = drift(calibrated_to(cut, method), cut)
    assert {name: metric["verdict"] for name, metric in found["metrics"].items()} == dict.fromkeys(
        METRICS, "stable"
    )
    assert max(metric["psi"] for metric in found["metrics"].values()) < 1e-5
    assert found["warnings"] == []
    assert found["review"].startswith("nothing has drifted")


def test_a_metric_with_most_customers_on_one_value_has_not_drifted_by_itself() -> None:
    """45% spend nothing, 2% one unit and the rest two: no decile parts them as they are, and the index is 0."""

    def total(at: int) -> float:
        return 0.0 if at < 180 else 1.0 if at < 188 else 2.0

    found = drift(calibrated_to(spending(total)), spending(total))
    assert found["metrics"]["revenue_365d"]["psi"] == 0.0


def test_the_index_of_a_metric_without_ties_is_that_over_its_deciles() -> None:
    """Oracle: NumPy's histogram over the deciles of amounts that all differ, and the formula."""
    then = spending(lambda at: 10 + at)
    now = spending(lambda at: 10.37 + 1.1 * at)
    found = drift(calibrated_to(then), now)["metrics"]["revenue_365d"]
    amounts = np.array([10.37 + 1.1 * at for at in range(400)])
    edges = np.quantile(10.0 + np.arange(400), np.arange(11) / 10)
    edges[0], edges[-1] = -np.inf, np.inf
    shares = np.histogram(amounts, edges)[0] / 400
    assert [one["now"] for one in found["bins"][:10]] == pytest.approx(shares.tolist(), abs=1e-6)
    assert found["psi"] == pytest.approx(float(np.sum((shares - 0.1) * np.log(shares / 0.1))), abs=1e-6)


def test_a_doubled_spend_is_a_large_drift_and_calls_for_a_review() -> None:
    """In revenue, margin, order value and lifetime value; recency stays."""
    found = drift(calibrated_to(spending(lambda at: 10 + at)), spending(lambda at: 20 + 2 * at))
    assert {"revenue_365d", "margin_365d", "average_order_value_365d"} <= {
        name for name, metric in found["metrics"].items() if metric["verdict"] == "large"
    }
    assert found["metrics"]["recency_days"]["verdict"] == "stable"
    assert found["review"].startswith("review now")
    assert any(warning.startswith("revenue_365d has drifted") for warning in found["warnings"])


def test_a_metric_that_is_no_longer_defined_has_drifted() -> None:
    """Orders were a month ago, and now are two years ago: no average order value of 365 days."""
    then = spending(lambda at: 10 + at)
    events = [order("2023-01-10", "50.00", customer_id=f"c{at}") for at in range(400)]
    (now,) = snapshots(events, "2025-01-31")
    found = drift(calibrated_to(then), now)["metrics"]["average_order_value_365d"]
    assert (found["missing_then"], found["missing_now"], found["verdict"]) == (0.0, 1.0, "large")
    written(found)


def test_a_difference_that_a_few_customers_make_by_chance_is_no_drift() -> None:
    """Eight customers, three of them in the lowest decile: the index is above 0.25, and below what chance brings."""
    then, amounts = spending(lambda at: 10 + at), (11, 20, 35, 60, 80, 100, 150, 190)
    found = drift(calibrated_to(then), spending(lambda at: amounts[at], customers=8))["metrics"][
        "revenue_365d"
    ]
    assert [one["now"] for one in found["bins"][:5]] == [0.375, 0.25, 0.125, 0.125, 0.125]
    assert found["chance"] > found["psi"] > 0.25
    assert found["verdict"] == "stable"


def test_without_drift_the_index_exceeds_the_one_by_chance_one_time_in_twenty(random_seed: int) -> None:
    """Oracle: 2,000 pairs of samples of 300 and 500; binomially, 5% within 3.5 standard deviations."""
    rng = np.random.default_rng(random_seed)
    chance = 0.05
    limit = 16.919 * (1 / 300 + 1 / 500)  # the 95% quantile of chi-squared with 9 degrees of freedom
    above = 0
    for _ in range(2000):
        now, then = rng.multinomial(300, np.full(10, 0.1)), rng.multinomial(500, np.full(10, 0.1))
        above += population_stability_index(now / 300, then / 500, 300, 500) > limit
    assert above / 2000 == pytest.approx(chance, abs=3.5 * np.sqrt(chance * (1 - chance) / 2000) + 0.005)


def test_a_model_that_was_not_calibrated_has_nothing_to_drift_from() -> None:
    """The built-in one; that is said, and no number is made up."""
    found = drift(load_model(), spending(lambda at: 10 + at, customers=5))
    assert found["review"] == "the model was not calibrated: there is no distribution to compare with"
    assert (found["metrics"], found["warnings"]) == ({}, [])


def test_a_metric_that_the_calibration_does_not_keep_is_named() -> None:
    """The others are told all the same."""
    snapshot = spending(lambda at: 10 + at)
    model = calibrated_to(snapshot)
    assert model.calibration is not None
    kept = {name: part for name, part in model.calibration.metrics.items() if name != "growth"}
    model = model.model_copy(update={"calibration": model.calibration.model_copy(update={"metrics": kept})})
    found = drift(model, snapshot)
    assert found["warnings"] == ["the calibration keeps no distribution of growth: no drift can be told"]
    assert set(found["metrics"]) == set(METRICS) - {"growth"}


def test_without_customers_there_is_nothing_to_compare() -> None:
    """Everyone denied profiling; that is said."""
    snapshot = spending(lambda at: 10 + at, customers=3)
    (nobody,) = snapshots([order("2025-01-05"), consent("2025-01-06", "profiling", False)], "2025-01-31")
    found = drift(calibrated_to(snapshot), nobody)
    assert found["warnings"] == ["there are no customers to compare with the calibration's"]
