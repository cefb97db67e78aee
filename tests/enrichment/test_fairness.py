"""Whether groups of customers fare alike: shares, ratios, intervals, and warnings that nothing hides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enrichment.insight.fairness import audit, ratio_interval, wilson

Document = dict[str, Any]


def audited(**favoured_of: tuple[int, int]) -> Document:
    """An audit by region of groups with (strategic customers, customers); `without` has no region."""
    groups: list[str | None] = []
    tiers: list[str] = []
    for name, (favoured, of) in favoured_of.items():
        groups += [None if name == "without" else name] * of
        tiers += ["strategic"] * favoured + ["inside"] * (of - favoured)
    return audit("region", groups, tiers, ["low"] * len(groups))


def tier_rows(found: Document) -> dict[str, Document]:
    """The groups' rows for the outcome of tiers, by label."""
    return {row["label"]: row for row in found["outcomes"][0]["groups"]}


def tier_warnings(found: Document) -> list[str]:
    return [warning for warning in found["warnings"] if warning.startswith("tier")]


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_shares_have_wilson_intervals(count: int, of: int, low: float, high: float) -> None:
    """Oracle: R. G. Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)


def test_the_guidelines_own_example_is_below_four_fifths() -> None:
    """Oracle: EEOC, Questions and Answers on the Uniform Guidelines (1979), 12: 48 of 80 and 12 of 40 give 50%."""
    found = audited(first=(48, 80), second=(12, 40))
    row = tier_rows(found)["second"]
    assert (row["share"], row["ratio"], row["verdict"]) == (0.3, 0.5, "below")
    assert tier_rows(found)["first"]["verdict"] == "most favoured"
    (warning,) = tier_warnings(found)
    assert warning.startswith(
        "tier strategic or named: second has 30.0% (12 of 40), 0.50 times the share of first (95% interval 0.30 to 0.83"
    )


def test_ratios_have_katz_intervals() -> None:
    """Oracle: exp(ln ratio ± 1.96 × √(1/12 − 1/40 + 1/48 − 1/80)), Katz et al. (1978), Biometrics 34."""
    reach = 1.959964 * np.sqrt(1 / 12 - 1 / 40 + 1 / 48 - 1 / 80)
    expected = (0.5 * np.exp(-reach), 0.5 * np.exp(reach))
    assert ratio_interval(12, 40, 48, 80) == pytest.approx(expected, abs=1e-5)


def test_a_group_of_whom_nobody_is_favoured_has_an_interval_too() -> None:
    """Oracle: 0.1611, Wilson's upper end of 0 of 20, ÷ Wilson's lower end for the other group."""
    low, high = ratio_interval(0, 20, 81, 263)
    assert low == 0.0
    assert high == pytest.approx(0.1611 / 0.2553, abs=1e-3)
    assert tier_rows(audited(big=(81, 263), none=(0, 20)))["none"]["verdict"] == "below"


def test_a_small_group_below_the_rule_is_warned_of_and_its_wide_interval_said() -> None:
    """One of eight against half of two hundred: chance might explain it, and it is shown all the same."""
    found = audited(large=(100, 200), tiny=(1, 8))
    (warning,) = tier_warnings(found)
    assert "tiny has 12.5% (1 of 8), 0.25 times the share of large" in warning
    assert "chance alone might explain it" in warning
    assert warning.endswith("a small group of 8: the interval is wide")
    assert [group["small"] for group in found["groups"]] == [False, True]


def test_a_small_most_favoured_group_does_not_hide_how_the_large_ones_compare() -> None:
    """Against three of three everyone is below; against the best large group only the third of them is."""
    found = audited(tiny=(3, 3), east=(50, 100), west=(45, 100), south=(20, 100))
    assert found["outcomes"][0]["most_favoured"] == "tiny"
    assert found["outcomes"][0]["most_favoured_not_small"] == "east"
    rows = tier_rows(found)
    assert [rows[name]["verdict"] for name in ("east", "west", "south")] == ["below"] * 3
    compared = {name: rows[name]["to_most_favoured_not_small"] for name in rows}
    assert compared["west"]["ratio"] == 0.9
    assert [compared[name]["verdict"] for name in ("east", "west", "south")] == [
        "most favoured",
        "unclear",
        "below",
    ]
    by_group = {
        name: warning for warning in tier_warnings(found) for name in rows if f": {name} has" in warning
    }
    assert set(by_group) == {"east", "west", "south"}
    assert "0.40 times the share of east" in by_group["south"]
    assert "of east" not in by_group["west"]


def test_customers_without_the_attribute_are_a_group_of_their_own() -> None:
    """The last one, with its own share and warning; a group may be named like it and be another."""
    found = audited(north=(50, 100), without=(10, 100))
    assert [(group["group"], group["label"]) for group in found["groups"]] == [
        ("north", "north"),
        (None, "(without region)"),
    ]
    assert ": (without region) has 10.0%" in tier_warnings(found)[0]


def test_a_ratio_that_holds_with_an_interval_that_does_not_is_said_to_be_unclear() -> None:
    """Half against 48%, of a hundred each; of ten thousand each it holds."""
    found = audited(a=(50, 100), b=(48, 100))
    assert tier_rows(found)["b"]["verdict"] == "unclear"
    assert tier_warnings(found) == [
        "tier strategic or named: b reaches four fifths, but with an interval that goes below: it cannot be told"
    ]
    found = audited(a=(5000, 10000), b=(4800, 10000))
    assert tier_rows(found)["b"]["verdict"] == "holds"
    assert tier_warnings(found) == []


def test_where_nobody_is_favoured_groups_cannot_be_compared() -> None:
    """No ratio of nothing to nothing, and that is said."""
    found = audited(a=(0, 50), b=(0, 60))
    assert {row["ratio"] for row in tier_rows(found).values()} == {None}
    assert tier_warnings(found) == ["tier strategic or named: nobody has it, so groups cannot be compared"]


def test_shares_of_each_group_add_up_over_tiers_and_segments() -> None:
    """Counts are those of the columns; groups are sorted by name."""
    found = audit(
        "region",
        ["b", "a", "b", "b"],
        ["strategic", "named", "inside", "inside"],
        ["high", "low", "prospect", "high"],
    )
    first, second = found["groups"]
    assert (first["group"], second["group"]) == ("a", "b")
    assert {name: cell["customers"] for name, cell in second["tier"].items()} == {
        "strategic": 1,
        "named": 0,
        "field": 0,
        "inside": 2,
    }
    assert second["segment"]["high"]["share"] == pytest.approx(2 / 3, abs=1e-6)
    assert [row["favoured"] for row in found["outcomes"][0]["groups"]] == [1, 1]
    assert [row["favoured"] for row in found["outcomes"][1]["groups"]] == [0, 2]


def test_one_group_alone_is_the_most_favoured_and_raises_no_warning() -> None:
    """There is nobody to compare it with."""
    found = audited(only=(5, 10))
    assert tier_warnings(found) == []
    assert tier_rows(found)["only"]["ratio"] == 1.0


def test_columns_of_different_lengths_or_without_customers_are_refused() -> None:
    """Each with its reason."""
    with pytest.raises(ValueError, match="one element per customer"):
        audit("region", ["a"], ["named", "named"], ["low"])
    with pytest.raises(ValueError, match="no customers"):
        audit("region", [], [], [])
