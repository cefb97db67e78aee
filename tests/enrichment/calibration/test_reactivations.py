"""Re-activations as lived: who came back though nothing was sent; and the rule that a fitted model has against them."""

from __future__ import annotations

from typing import Any

import pytest

from enrichment.calibration.as_lived.reactivations import WITHIN_DAYS, reactivations
from enrichment.calibration.as_lived.timelines import PurchaseDays
from enrichment.calibration.rules.own_return import OWN_RETURN, with_own_return
from enrichment.days import format_day
from enrichment.model import Model, load_model
from tests.enrichment.calibration.histories import FIRST_DAY
from tests.enrichment.calibration.test_lived import history

BUYERS = {"a": [90, 110], "b": [90, 124], "c": [90, 125], "d": [90]}
CUT, END = 100, 130


def due(customer: str, day: int, stake: str | None = "5.00") -> Any:
    """A re-activation at the midnight that begins a day of the history."""
    return {
        "customer_id": customer,
        "as_of": f"{format_day(FIRST_DAY + day)}T00:00:00Z",
        "value_at_stake": stake,
    }


def told(*triggers: Any) -> dict[str, Any]:
    _, end = history(BUYERS, CUT, END)
    return reactivations(triggers, PurchaseDays.of(end), FIRST_DAY + CUT, end)


@pytest.mark.parametrize(
    ("customer", "day", "returned"),
    [("a", 110, 1), ("a", 111, 0), ("b", 111, 1), ("c", 111, 0), ("d", 105, 0)],
    ids=["on the day", "before the day", "on the fourteenth day", "on the fifteenth", "never"],
)
def test_a_purchase_within_14_days_from_the_midnight_on_is_a_return(
    customer: str, day: int, returned: int
) -> None:
    """The day that begins with the midnight is the first."""
    found = told(due(customer, day))
    assert (found["within_days"], found["due"], found["returned"]) == (14, 1, returned)


def test_only_those_after_the_cut_that_can_be_seen_for_14_days_count() -> None:
    """The last day of the history is the fourteenth of the last of them; who is not there any more is left out."""
    seen_last = END - WITHIN_DAYS + 1
    found = told(
        due("d", CUT), due("d", CUT + 1), due("d", seen_last), due("d", seen_last + 1), due("gone", 110)
    )
    assert (found["due"], found["customers"], found["value_at_stake"]) == (2, 1, 10.0)


def test_shares_are_of_re_activations_and_intervals_of_customers() -> None:
    """Of two customers one came back after each of two: any draw of the customers has a share between none and all."""
    found = told(due("a", 109), due("a", 110, None), due("d", 110))
    assert (found["returned_share"], found["value_at_stake"]) == (pytest.approx(2 / 3, abs=1e-6), 10.0)
    assert found["returned_share_interval"] == [0.0, 1.0]


def test_none_due_is_told_as_none() -> None:
    """With nothing that would have to be divided."""
    found = told()
    assert (found["due"], found["returned_share"], found["returned_share_interval"]) == (0, None, None)


def test_a_fitted_model_waits_for_who_will_come_back_alone() -> None:
    """Unless the model to begin with has a rule of its own; all else about re-activation stays."""
    document = load_model().model_dump(mode="json")
    fitted = with_own_return(document)
    assert Model.model_validate(fitted).reactivation.own_return is not None
    assert fitted["reactivation"] == {**document["reactivation"], "own_return": OWN_RETURN}
    own = {"within_days": 30, "above": 0.5}
    document["reactivation"]["own_return"] = own
    assert with_own_return(document)["reactivation"]["own_return"] == own
