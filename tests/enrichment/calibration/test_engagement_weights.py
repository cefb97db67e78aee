"""Engagement weights: found again where they are known, and left alone where they cannot be."""

from __future__ import annotations

import json
import sys
from itertools import chain

import numpy as np
import pytest

from ebbtide.testing.records import engagement, model, order
from enrichment.calibration.engagement_weights import (
    EngagementWeights,
    fit_engagement_weights,
    reweighted,
    with_weights,
)
from enrichment.calibration.snapshot import Snapshot
from enrichment.model import Model
from schemas.events import Event
from tests.enrichment.calibration.population import document, shop, snapshots

CUT, END = "2024-06-30", "2024-12-31"


def interactions(customer: int, kind: str, count: int, when: str = CUT, **more: object) -> list[Event]:
    return [
        engagement(
            kind,
            when,
            event_id=f"{customer}/{kind}/{turn}/{when}/{more}",
            customer_id=f"{customer:04d}",
            **more,
        )
        for turn in range(count)
    ]


def history(
    effects: dict[str, float], customers: int = 1200, when: str = CUT, seed: int = 3, base: float = -1.0
) -> list[Event]:
    """Customers with an order on one day and interactions on another, whose log odds of buying later are known."""
    rng = np.random.default_rng(seed)
    counts = {kind: rng.poisson(0.8, customers) for kind in sorted(effects)}
    log_odds = base + sum(effects[kind] * counts[kind] for kind in counts)
    buys = rng.random(customers) < 1 / (1 + np.exp(-log_odds))
    records = [order("2024-03-01", "10.00", f"first/{n}", customer_id=f"{n:04d}") for n in range(customers)]
    records += [
        order("2024-08-01", "10.00", f"later/{n}", customer_id=f"{n:04d}") for n in np.flatnonzero(buys)
    ]
    for kind, count in counts.items():
        records += chain.from_iterable(interactions(n, kind, int(count[n]), when) for n in range(customers))
    return records


def fitted(events: list[Event], by: Model | None = None) -> EngagementWeights:
    cut, end = snapshots(events, CUT, END, by=by)
    return fit_engagement_weights(cut, end, by or model())


@pytest.fixture(scope="module")
def known() -> list[Event]:
    """A click is worth four opens."""
    return history({"clicked": 1.0, "opened": 0.25})


@pytest.fixture(scope="module")
def found(known: list[Event]) -> EngagementWeights:
    return fitted(known)


def test_weights_are_those_that_made_the_purchases(found: EngagementWeights) -> None:
    """Oracle: the log odds by which the purchases were drawn, within what 1,200 customers can tell."""
    kinds = found.report["kinds"]
    assert kinds["clicked"]["log_odds"] == pytest.approx(1.0, abs=0.2)
    assert kinds["opened"]["log_odds"] == pytest.approx(0.25, abs=0.15)
    assert (
        found.report["quality"]["fitted_weights"]["auc"]
        > found.report["quality"]["no_engagement"]["auc"] + 0.1
    )


def test_fitted_weights_add_up_to_the_defaults_of_their_kinds(found: EngagementWeights) -> None:
    """Clicks and opens have 3 and 1 in the model; the other kinds, of which there were none, keep theirs."""
    assert found.weights is not None
    assert found.weights["clicked"] + found.weights["opened"] == pytest.approx(4.0, abs=0.011)
    assert found.weights["clicked"] > 2 * found.weights["opened"] > 0
    others = {kind: weight for kind, weight in found.weights.items() if kind not in ("clicked", "opened")}
    defaults = {kind: weight for kind, weight in model().scored_kinds.items() if kind in others}
    assert others == defaults
    assert all(found.report["kinds"][kind]["fitted"] is None for kind in others)
    assert found.report["kinds"]["read"]["reason"] == "not fitted: 0 customers did this, and it takes 50"


def test_an_interaction_of_a_half_life_ago_counts_half(found: EngagementWeights) -> None:
    """The same history 30 days earlier: log odds per interaction of today are twice as high."""
    earlier = fitted(history({"clicked": 1.0, "opened": 0.25}, when="2024-05-31"))
    for kind in ("clicked", "opened"):
        expected = 2 * found.report["kinds"][kind]["log_odds"]
        assert earlier.report["kinds"][kind]["log_odds"] == pytest.approx(expected, rel=1e-4)
    assert earlier.weights == found.weights


def test_what_only_goes_with_frequent_buying_gets_next_to_no_weight() -> None:
    """Frequent buyers visit more and buy more; at equal frequency visits tell nothing, and clicks do."""
    rng = np.random.default_rng(5)
    records: list[Event] = []
    for n in range(1000):
        orders, clicks = 1 + int(rng.poisson(2.0)), int(rng.poisson(0.8))
        records += [
            order(f"2024-0{1 + turn % 5}-{1 + turn:02d}", "10.00", f"{n}/{turn}", customer_id=f"{n:04d}")
            for turn in range(orders)
        ]
        records += interactions(n, "visited", int(rng.poisson(orders / 2)))
        records += interactions(n, "clicked", clicks)
        if rng.random() < 1 / (1 + np.exp(3.0 - 0.9 * orders - 0.6 * clicks)):
            records.append(order("2024-08-01", "10.00", f"later/{n}", customer_id=f"{n:04d}"))
    kinds = fitted(records).report["kinds"]
    assert kinds["clicked"]["fitted"] > 4 * kinds["visited"]["fitted"]


def test_what_goes_with_fewer_purchases_has_no_weight_and_a_warning_says_so() -> None:
    """Weights are never negative."""
    result = fitted(history({"clicked": 1.0, "opened": 0.4, "viewed": -1.0}, base=0.0))
    assert result.weights is not None
    assert result.weights["viewed"] == 0
    assert min(result.weights.values()) >= 0
    assert result.report["kinds"]["viewed"]["log_odds"] == 0
    assert result.warnings == ["with the fitted weights these no longer count as engagement: viewed"]


@pytest.mark.parametrize(
    ("clicked", "opened", "verdict"),
    [(0.1, 6.0, "yes"), (4.0, 1.0, "cannot be told"), (3.0, 1.0, "cannot be told")],
)
def test_whether_fitted_weights_foretell_better_than_the_models_is_told(
    known: list[Event], clicked: float, opened: float, verdict: str
) -> None:
    """Better than a model that has it upside down; no better than one that is right, or nearly."""
    by = model(engagement={"kinds": {"clicked": {"weight": clicked}, "opened": {"weight": opened}}})
    report = fitted(known, by).report
    assert report["verdict"] == verdict
    default, own = report["quality"]["default_weights"], report["quality"]["fitted_weights"]
    assert report["log_loss_saved"] == pytest.approx(default["log_loss"] - own["log_loss"], abs=2e-6)
    assert report["interval"][0] <= report["log_loss_saved"] <= report["interval"][1]


def test_quality_is_that_on_customers_whom_the_fit_had_not_seen() -> None:
    """Nine kinds that tell nothing: a fit of them is worse than none, which on the customers fitted it cannot be."""
    quality = fitted(history(dict.fromkeys(model().scored_kinds, 0.0), 150, base=0.0)).report["quality"]
    assert quality["fitted_weights"]["log_loss"] > quality["no_engagement"]["log_loss"]


def test_automated_interactions_move_no_weight(known: list[Event], found: EngagementWeights) -> None:
    """Machine opens of everyone who was to buy."""
    buyers = [int(event.customer_id) for event in known if event.event_id.startswith("order/later")]
    assert len(buyers) > 300
    machine = chain.from_iterable(
        interactions(n, "opened", 3, channel="email", automated=True) for n in buyers
    )
    result = fitted([*known, *machine])
    assert (result.weights, result.report) == (found.weights, found.report)


def test_a_robot_moves_weights_little(known: list[Event], found: EngagementWeights) -> None:
    """One customer with 400 clicks who buys nothing."""
    result = fitted([*known, order("2024-03-01", customer_id="robot"), *interactions(9999, "clicked", 400)])
    assert result.weights is not None
    assert found.weights is not None
    assert result.weights["clicked"] == pytest.approx(found.weights["clicked"], abs=0.15)


def test_the_same_history_gives_the_same_weights(known: list[Event], found: EngagementWeights) -> None:
    """Bit for bit, folds and all, and in JSON without NaN."""
    again = fitted(known)
    assert json.dumps(again.report, allow_nan=False) == json.dumps(found.report, allow_nan=False)


def nobody_buys() -> list[Event]:
    return history({"clicked": 0.0, "opened": 0.0}, 200, base=-50.0)


def everybody_buys() -> list[Event]:
    return history({"clicked": 0.0, "opened": 0.0}, 200, base=50.0)


def one_kind() -> list[Event]:
    return history({"clicked": 1.0}, 200)


def few_customers() -> list[Event]:
    return history({"clicked": 1.0, "opened": 0.25}, 5)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (nobody_buys, "only 0 customers bought later; it takes 50"),
        (everybody_buys, "only 0 customers did not buy later; it takes 50"),
        (one_kind, "only clicked was found with 50 customers or more, and weights are relative to each other"),
        (few_customers, "no kind of interaction was found with 50 customers or more, and weights are relative to "
         "each other"),
        (list, "no kind of interaction was found with 50 customers or more, and weights are relative to each other"),
    ],
)  # fmt: skip
def test_where_weights_cannot_be_fitted_the_reason_is_told(events: object, reason: str) -> None:
    """And the model's weights are left alone."""
    assert callable(events)
    result = fitted(events())
    assert result.weights is None
    assert result.report["reason"] == reason
    assert result.report["verdict"] == "cannot be told"
    assert {told["fitted"] for told in result.report["kinds"].values()} == {None}
    json.dumps(result.report, allow_nan=False)


def test_where_nothing_foretells_purchases_there_are_no_weights() -> None:
    """Both kinds go with fewer purchases."""
    result = fitted(history({"clicked": -0.8, "opened": -0.8}, 600, base=1.0))
    assert (result.weights, result.report["verdict"]) == (None, "no")
    assert result.warnings == [
        "no kind of interaction goes with more purchases, at equal recency and frequency"
    ]


def test_without_scikit_learn_the_reason_names_what_to_install(
    known: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra of the package."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result = fitted(known)
    assert result.weights is None
    assert result.report["reason"] == "scikit-learn is not installed: pip install 'ebbtide[calibration]'"


def test_a_reweighted_snapshot_is_one_taken_with_the_new_weights() -> None:
    """Oracle: the snapshot that the same records give under the new model."""
    given = document()
    new = Model.model_validate(with_weights(given, {"opened": 7.0, "clicked": 0.0}))
    assert given == document()
    assert (new.scored_kinds["opened"], "clicked" in new.scored_kinds) == (7.0, False)
    (old_snapshot,) = snapshots(shop(40), CUT)
    (expected,) = snapshots(shop(40), CUT, by=new)
    assert points(reweighted(old_snapshot, new), new) == points(expected, new) != points(old_snapshot, new)
    assert reweighted(old_snapshot, new).customer_ids == expected.customer_ids


def points(snapshot: Snapshot, by: Model) -> list[float]:
    return [float(value) for value in snapshot.features(by).weighted_engagement_90d]
