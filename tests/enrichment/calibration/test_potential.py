"""Potential: what the product says it is good for, and whether held-out history bears it out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import engagement, model, order
from enrichment.calibration.potential import compare_growers, compare_means, unproven, validate_potential
from enrichment.calibration.rules.scales import fit_scales
from enrichment.model import Model
from schemas.events import Event
from tests.enrichment.calibration.population import Document, cdnow, document, shop, snapshots

CUT, END = "2024-06-30", "2024-12-31"


@pytest.fixture(scope="module", params=["shop", "cdnow"])
def calibrated(request: pytest.FixtureRequest) -> Model:
    """The model with scales fitted to a made-up shop with engagement, and to CDNOW."""
    visits = [
        engagement(
            "visited", f"2024-12-{1 + number % 30:02d}", customer_id=f"prospect {number}", channel="web"
        )
        for number in range(60)
    ]
    events, date = (
        ([*shop(120), *visits], "2024-12-30") if request.param == "shop" else (cdnow(), "1998-06-30")
    )
    (snapshot,) = snapshots(events, date)
    return Model.model_validate(fit_scales(document(), snapshot).document)


def test_a_small_high_margin_growing_account_outranks_a_large_one_of_low_margin(calibrated: Model) -> None:
    """1,440 a year that grows, at 80% margin, against 6,000 at 1%: by value and segment."""
    partition = LocalStream(calibrated)
    for month in range(1, 13):
        price = 16 + 4 * month
        for turn in range(1 + (month - 1) // 3):
            when, cost = f"2024-{month:02d}-{5 + 5 * turn:02d}", f"{price * 0.2:.2f}"
            partition.take(order(when, f"{price}.00", customer_id="small", cost_of_goods=cost))
        partition.take(engagement("visited", f"2024-{month:02d}-21", channel="web", customer_id="small"))
        partition.take(order(f"2024-{month:02d}-05", "500.00", customer_id="large", cost_of_goods="495.00"))
        partition.take(engagement("support_contacted", f"2024-{month:02d}-22", customer_id="large"))
    partition.pass_midnight("2024-12-31")
    small, large = partition.profile("small"), partition.profile("large")
    assert float(small["aggregates"]["revenue_365d"]) < float(large["aggregates"]["revenue_365d"]) / 4
    assert small["scores"]["value"] > large["scores"]["value"]
    assert small["standing"]["segment"] == "high" != large["standing"]["segment"]
    assert small["standing"]["tier"] == "strategic"


def test_a_declared_budget_and_growth_plans_lift_a_prospect_before_the_first_purchase(
    calibrated: Model,
) -> None:
    """From `prospect` to `emerging`, by potential alone."""
    partition = LocalStream(calibrated)
    partition.take(engagement("opened", "2025-01-01", channel="email"))
    assert partition.standing() == ("prospect", "inside", "prospect")
    answers = {"budget": "high", "growth_plans": True}
    changes = partition.take(engagement("declared", "2025-01-20", declared=answers))
    lifted = {change["dimension"]: (change["previous"], change["current"]) for change in changes}
    assert lifted["segment"] == ("prospect", "emerging")
    assert lifted["tier"][0] == "inside" != lifted["tier"][1]
    effects = {driver["metric"]: driver["effect_on_value"] for driver in changes[0]["reason"]["drivers"]}
    assert effects["declared_intent"] > 5
    assert partition.profile()["aggregates"]["order_count"] == 0


def bought_once(customers: range, when: str) -> list[Event]:
    return [order(when, "10.00", f"first/{number}", customer_id=f"{number:03d}") for number in customers]


def declared_a_budget(customers: range) -> list[Event]:
    return [
        engagement("declared", "2024-06-01", customer_id=f"{number:03d}", declared={"budget": "high"})
        for number in customers
    ]


def bought_later(customers: range, total: int) -> list[Event]:
    return [
        order("2024-09-01", f"{total + number % 7}.00", f"later/{number}", customer_id=f"{number:03d}")
        for number in customers
    ]


def verdicts(events: list[Event]) -> Document:
    cut, end = snapshots(events, CUT, END)
    return validate_potential(model(), cut, end)


@pytest.mark.parametrize(
    ("emerging_total", "low_total", "verdict"),
    [(40, 20, "yes"), (20, 40, "no"), (20, 20, "cannot be told")],
)
def test_whether_emerging_customers_spent_more_later_is_told_plainly(
    emerging_total: int, low_total: int, verdict: str
) -> None:
    """80 customers with one order, half of whom declared a budget; counts and means by hand."""
    some, others = range(40), range(40, 80)
    told = verdicts(
        bought_once(range(80), "2024-05-01")
        + declared_a_budget(some)
        + bought_later(some, emerging_total)
        + bought_later(others, low_total)
    )["with_order"]
    assert (told["emerging"]["customers"], told["low"]["customers"]) == (40, 40)
    assert told["emerging"]["later_revenue"] == pytest.approx(np.mean([emerging_total + n % 7 for n in some]))
    assert told["low"]["later_revenue"] == pytest.approx(np.mean([low_total + n % 7 for n in others]))
    assert told["difference"] == pytest.approx(
        told["emerging"]["later_revenue"] - told["low"]["later_revenue"]
    )
    assert told["low"]["bought_share"] == 1.0
    assert told["verdict"] == told["beyond_lifetime_value"]["verdict"] == verdict


def test_a_difference_that_lifetime_value_explains_is_told_apart() -> None:
    """Who bought last month buys more than who bought a year ago, and more of the former declared a budget."""
    recent, old = range(100), range(100, 200)
    told = verdicts(
        bought_once(recent, "2024-05-25")
        + bought_once(old, "2023-05-25")
        + declared_a_budget(range(60))
        + declared_a_budget(range(100, 110))
        + bought_later(recent, 40)
        + bought_later(old, 10)
    )["with_order"]
    assert told["verdict"] == "yes"
    assert told["difference"] > 10
    assert told["beyond_lifetime_value"]["verdict"] == "cannot be told"
    assert abs(told["beyond_lifetime_value"]["difference"]) < 1


def test_emerging_customers_of_more_lifetime_value_than_any_other_are_held_against_the_next() -> None:
    """All of `low` have the same lifetime value; those who declared a budget have more, and buy just as much."""
    some, others = range(40), range(40, 80)
    told = verdicts(
        bought_once(some, "2024-06-25")
        + bought_once(others, "2024-01-05")
        + declared_a_budget(some)
        + bought_later(range(80), 20)
    )["with_order"]
    lifetime = [told[name]["customer_lifetime_value_365d"] for name in ("emerging", "low")]
    assert lifetime[0] > lifetime[1] + 1
    assert abs(told["beyond_lifetime_value"]["difference"]) < 1


def test_potential_before_the_first_order_is_held_against_prospects() -> None:
    """Nobody of either has bought before the cut."""
    some, others = range(40), range(40, 80)
    visited = [
        engagement("visited", "2024-05-01", customer_id=f"{number:03d}", channel="web") for number in others
    ]
    told = verdicts(declared_a_budget(some) + visited + bought_later(some, 30))
    assert told["days"] == 184
    assert told["before_first_order"]["verdict"] == "yes"
    assert told["before_first_order"]["prospect"]["later_revenue"] == 0
    assert told["with_order"]["emerging"]["customers"] == 0
    assert told["with_order"]["verdict"] == "cannot be told"


@pytest.mark.parametrize("size", [0, 5, 29])
def test_few_customers_tell_nothing_and_the_reason_is_their_number(size: int) -> None:
    """Also where there is nobody at all: no exception, no NaN."""
    some, others = range(size), range(100, 100 + size)
    told = verdicts(
        bought_once(some, "2024-05-01")
        + bought_once(others, "2024-05-01")
        + declared_a_budget(some)
        + bought_later(some, 500)
    )
    json.dumps(told, allow_nan=False)
    assert told["with_order"]["verdict"] == "cannot be told"
    assert told["with_order"]["interval"] is None
    assert told["with_order"]["reason"] == f"{size} customers against {size}: it takes 30 of each"


def test_the_interval_of_a_difference_is_that_of_welch_where_both_should_agree() -> None:
    """Oracle: scipy.stats.ttest_ind(equal_var=False), for two large groups of a mild distribution."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(11.0, 3.0, 1500), rng.normal(10.0, 1.0, 900)
    told = compare_means(first, second)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert told["interval"] == pytest.approx([expected.low, expected.high], abs=0.03)
    assert told == compare_means(first, second)


def test_equal_constants_differ_by_nothing() -> None:
    """Nobody of either spent anything later."""
    told = compare_means(np.zeros(50), np.zeros(60))
    assert (told["difference"], told["interval"], told["verdict"]) == (0.0, [0.0, 0.0], "cannot be told")


def growing(emerging: int, recent: int, of: int = 40) -> Document:
    """`of` emerging customers who bought long ago, and as many others who bought lately: so many of each grew.

    Ten more are both emerging and recent, and all of them grew.
    """
    is_emerging = np.repeat([True, False, True], [of, of, 10])
    recency_days = np.repeat([90, 10, 5], [of, of, 10])
    grew = np.concatenate([np.arange(of) < emerging, np.arange(of) < recent, np.full(10, True)])
    return compare_growers(is_emerging, recency_days, grew)


def test_growers_among_emerging_are_held_against_as_many_who_bought_last() -> None:
    """Oracle: of 30 growers in one selection only, 20 or more are in the first by chance once in 20.3 times."""
    told = growing(20, 10)
    assert told["customers"] == 50
    assert (told["emerging"], told["most_recent"]) == (0.6, 0.4)
    assert told["in_one_only"] == 40
    assert told["p_value"] == pytest.approx(0.049369, abs=1e-6)
    assert told["verdict"] == "yes"


@pytest.mark.parametrize(("emerging", "recent"), [(19, 10), (10, 10), (0, 0), (3, 30)])
def test_emerging_that_does_not_find_more_growers_is_proposed_to_be_left_out(
    emerging: int, recent: int
) -> None:
    told = growing(emerging, recent)
    assert told["verdict"] == "no"
    (warning,) = unproven({"days": 90, "with_order": {"growers": told}})
    assert "segments.emerging_potential: 100" in warning
    assert f"{told['emerging']:.0%} brought more in the 90 days" in warning


def test_of_few_emerging_customers_nothing_is_said() -> None:
    """29 who are in one selection only say nothing, nor does a shop without any."""
    told = growing(0, 29, of=29)
    assert (told["p_value"], told["verdict"]) == (None, "cannot be told")
    assert unproven({"days": 90, "with_order": {"growers": told}}) == []
    nobody = compare_growers(np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
    assert (nobody["customers"], nobody["emerging"], nobody["verdict"]) == (0, None, "cannot be told")
