"""What a silence puts at stake: the lifetime value that a purchase today would bring back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import consent, engagement, model, order
from enrichment.lifetime.empirical_hazard import EmpiricalHazard
from enrichment.lifetime.lifetime_value import BGNBD, ParetoNBD, Predictor

CENT = Decimal("0.01")
FAMILIES: dict[str, Predictor] = {
    "Pareto/NBD": ParetoNBD(0.553, 10.578, 0.606, 11.669),
    "Pareto/NBD, s = 1": ParetoNBD(0.553, 10.578, 1.0, 11.669),
    "BG/NBD": BGNBD(0.243, 4.414, 0.793, 2.426),
    "empirical": EmpiricalHazard(4.0, 26.0, (0.0, 8.0), (0.02, 0.01), (2.0, 20.0), ((0.3, 0.1), (0.1, 0.05))),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_expected_after_a_purchase_is_expected_with_the_last_purchase_now(family: Predictor) -> None:
    """To the last bit; oracle: `expected_purchases` with t_x = T."""
    x, T = np.array([0.0, 1.0, 5.0, 40.0, 3.0]), np.array([0.0, 10.0, 60.0, 80.5, 1000.0])
    found = family.expected_after_purchase(52.0, x, T)
    assert found.tolist() == family.expected_purchases(52.0, x, T, T).tolist()


def traits(*dates: str, until: str, **changes: Any) -> dict[str, Any]:
    """Of a customer with orders of one size on these dates, as of the end of a midnight."""
    stream = LocalStream(model(**changes))
    stream.take(*(order(date, "20.00", f"o{n}") for n, date in enumerate(dates)))
    stream.pass_midnight(until)
    return dict(stream.profile()["traits"])


def test_value_at_stake_is_what_a_twin_who_bought_today_is_worth_above_it() -> None:
    """The twin has as many purchase days, of the same money, since the same day; to a cent, since both are rounded."""
    silent = traits("2025-01-01", "2025-02-01", "2025-03-01", until="2025-09-01")
    twin = traits("2025-01-01", "2025-02-01", "2025-09-01", until="2025-09-01")
    worth = Decimal(twin["customer_lifetime_value_365d"]) - Decimal(silent["customer_lifetime_value_365d"])
    assert worth > 5
    assert abs(Decimal(silent["value_at_stake"]) - worth) <= CENT
    assert twin["value_at_stake"] == "0.00"


def test_value_at_stake_grows_with_silence_and_falls_in_the_end() -> None:
    """Doubt grows, and then what was bought says ever less of what would come."""
    at_stake = [
        Decimal(traits("2025-01-01", "2025-02-01", "2025-03-01", until=until)["value_at_stake"])
        for until in (*(f"2025-{month:02}-01" for month in range(4, 10)), "2028-01-01", "2040-01-01")
    ]
    assert at_stake[:6] == sorted(set(at_stake[:6]))
    assert at_stake[5] > at_stake[6] > at_stake[7] > 0


def test_one_time_buyers_have_something_at_stake_unless_the_family_takes_them_to_be_active() -> None:
    """BG/NBD gives every one of them a probability of 1."""
    bg_nbd = {"purchases": {"family": "bg_nbd", "r": 0.243, "alpha": 4.414, "a": 0.793, "b": 2.426}}
    assert Decimal(traits("2025-01-01", until="2025-06-01")["value_at_stake"]) > 0
    assert traits("2025-01-01", until="2025-06-01", lifetime_value=bg_nbd)["value_at_stake"] == "0.00"


def test_a_customer_who_costs_more_than_they_bring_has_nothing_at_stake() -> None:
    """Their lifetime value is negative, and more purchases would make it more so."""
    stream = LocalStream(model())
    stream.take(*(order(f"2025-0{n}-01", "20.00", f"o{n}", cost_of_goods="30.00") for n in (1, 2, 3)))
    stream.pass_midnight("2025-09-01")
    found = stream.profile()["traits"]
    assert Decimal(found["customer_lifetime_value_365d"]) < 0
    assert found["value_at_stake"] == "0.00"


def test_without_a_counted_order_nothing_is_at_stake_and_no_silence_told() -> None:
    """Null, also where the model has a window."""
    window = {"window_days": 90, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5}
    stream = LocalStream(model(lifecycle=window, hysteresis={"silence_risk_margin": 0.01}))
    stream.take(engagement("clicked", "2025-01-01"))
    assert stream.profile()["traits"]["value_at_stake"] is None
    assert stream.profile()["traits"]["silence_risk"] is None


@pytest.mark.parametrize(("unit", "days"), [("day", 1.0), ("week", 7.0), ("month", 365.25 / 12)])
def test_silence_risk_looks_as_many_days_ahead_as_the_window(unit: str, days: float) -> None:
    """Oracle: the family's own probability of no purchase; null without a window."""
    dates = ("2025-01-01", "2025-02-01", "2025-03-01")
    assert traits(*dates, until="2025-04-01")["silence_risk"] is None
    window = {"window_days": 90, "at_risk_silence_risk": 0.2, "lapsed_silence_risk": 0.5}
    found = traits(
        *dates,
        until="2025-04-01",
        lifecycle=window,
        hysteresis={"silence_risk_margin": 0.01},
        lifetime_value={"time_unit": unit},
    )
    family = model().lifetime_value.purchase_model
    risk = family.probability_of_no_purchase(90 / days, 2.0, 59 / days, 90 / days)
    assert found["silence_risk"] == pytest.approx(float(risk), abs=5.1e-7)
    assert found["churn_risk"] < found["silence_risk"]


def test_a_re_activation_says_what_is_at_stake_on_its_day() -> None:
    """As in the profile of that midnight, so that a flow's order is a sort."""
    stream = LocalStream(model(reactivation={"control_share": 0}))
    stream.take(
        consent("2025-01-01", "email", True),
        *(order(f"2025-{month:02}-01", "60.00", f"o{month}") for month in range(1, 7)),
    )
    stream.pass_midnight("2026-06-01")
    trigger = stream.triggers[0]
    twin = LocalStream(model())
    twin.take(*(order(f"2025-{month:02}-01", "60.00", f"o{month}") for month in range(1, 7)))
    twin.pass_midnight(trigger["as_of"][:10])
    assert Decimal(trigger["value_at_stake"]) > 0
    assert trigger["value_at_stake"] == twin.profile()["traits"]["value_at_stake"]
