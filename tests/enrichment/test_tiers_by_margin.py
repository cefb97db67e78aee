"""Tiers by expected margin: points of lifetime value less cost to serve, by the model's own line."""

from __future__ import annotations

from typing import Any

import pytest

from ebbtide.testing.local_stream import LocalStream
from ebbtide.testing.records import engagement, model, order
from enrichment.model import ModelError, load_model, parse_model
from streams.insight.calibrate import model_text

BY_MARGIN: dict[str, Any] = {
    "by": "expected_margin",
    "breakpoints": [[0, 0], [10, 50], [20, 100]],
    "by_expected_margin": {"strategic": 90, "named": 50, "field": 20},
}


def bought(cost_of_goods: str, touch: str) -> LocalStream:
    """A customer whose first order came after a touch that cost so much: the plain rule holds at once."""
    partition = LocalStream(model(tiers=BY_MARGIN))
    partition.take(
        engagement("delivered", "2025-03-01", channel="phone", cost=touch, currency="USD"),
        order("2025-03-02", "50.00", cost_of_goods=cost_of_goods),
    )
    return partition


def test_a_tier_goes_by_what_is_expected_less_what_it_costs() -> None:
    """Oracle: the line and the thresholds above, by the amounts of the profile; the value score decides nothing."""
    tiers = []
    for cost_of_goods, touch in (("0.00", "0.00"), ("35.00", "0.00"), ("0.00", "28.00"), ("60.00", "0.00")):
        partition = bought(cost_of_goods, touch)
        profile = partition.profile()
        lifetime = float(profile["traits"]["customer_lifetime_value_365d"])
        points = 5 * (lifetime - float(profile["aggregates"]["cost_to_serve_365d"]))
        reached = [tier for tier, least in BY_MARGIN["by_expected_margin"].items() if points >= least]
        tiers.append(partition.standing()[1])
        assert tiers[-1] == (reached or ["inside"])[0], (cost_of_goods, touch, points)
    assert len(set(tiers)) >= 3


def test_a_model_that_says_nothing_goes_by_value() -> None:
    """And keeps its fingerprint; points of value are what tiers go by."""
    assert load_model().tiers.by == "value"
    assert load_model().fingerprint == "2ad1ed42a69b4ea3"
    assert model(tiers=BY_MARGIN).fingerprint != model().fingerprint


@pytest.mark.parametrize("missing", ["breakpoints", "by_expected_margin", "by"])
def test_a_part_of_it_alone_is_refused(missing: str) -> None:
    """The line, its thresholds and the word belong together."""
    document = model(tiers=BY_MARGIN).model_dump(mode="json", exclude_none=True)
    del document["tiers"][missing]
    with pytest.raises(ModelError, match=r"tiers: .*by.expected_margin"):
        parse_model(model_text(document), "m.yaml")
