"""How many customers keep their standing from one snapshot to the next."""

from __future__ import annotations

import numpy as np
import pytest

from ebbtide.testing.records import model, order
from enrichment.calibration.stability import stability
from enrichment.model import load_model
from enrichment.scoring.scores import score
from enrichment.scoring.standing import candidates
from tests.enrichment.calibration.snapshots import cdnow, snapshots, written

PLAIN = model(hysteresis={"score_margin": 0, "churn_risk_margin": 0, "dwell_days": 0})
MONTH_ENDS = ("2025-01-31", "2025-02-28", "2025-03-31", "2025-04-30")


def test_without_margins_and_dwell_the_plain_rules_are_kept() -> None:
    """Oracle: the rules asked at both snapshots of CDNOW, compared row by row."""
    cut, end = cdnow()
    found = stability([cut, end], PLAIN)
    ranks = [
        candidates(features, score(features, PLAIN), PLAIN).plain
        for features in (cut.features(PLAIN), end.features(PLAIN))
    ]
    kept = (ranks[0] == ranks[1]).mean(axis=0)
    for at, dimension in enumerate(("segment", "tier", "lifecycle")):
        part = found["dimensions"][dimension]
        assert part["kept_share"] == part["kept_share_plain"] == pytest.approx(kept[at], abs=1e-6)
        counts = np.array(part["transitions"])
        assert counts.sum() == 2357
        assert np.trace(counts) / 2357 == pytest.approx(kept[at], abs=1e-6)


def test_hysteresis_keeps_at_least_as_many_as_the_plain_rules() -> None:
    """Between one week and the next, where standings wobble about their thresholds."""
    events = [
        order(f"2025-0{month}-{1 + (7 * at + 3 * month) % 27:02}", f"{4 + 7 * at}.00", customer_id=f"c{at}")
        for at in range(60)
        for month in (1, 2, 3)
    ]
    weeks = ("2025-02-01", "2025-02-08", "2025-02-15", "2025-02-22", "2025-03-01", "2025-03-08", "2025-03-15")
    found = stability(snapshots(events, *weeks), load_model())["dimensions"]
    assert found["tier"]["kept_share"] > found["tier"]["kept_share_plain"]
    assert found["segment"]["kept_share"] >= found["segment"]["kept_share_plain"]


def test_a_dwell_longer_than_the_history_keeps_everyone_but_the_new() -> None:
    """Only the end of `new`, which has no dwell, moves anyone: here one customer, in lifecycle."""
    still = model(hysteresis={"dwell_days": 400})
    events = [order("2025-01-20", "500.00"), order("2024-01-20", "20.00", customer_id="old")]
    found = stability(snapshots(events, *MONTH_ENDS), still)
    assert [period["kept_share"]["lifecycle"] for period in found["periods"]] == [0.5, 1.0, 1.0]
    assert found["dimensions"]["segment"]["kept_share"] == 1.0
    assert found["dimensions"]["tier"]["kept_share"] == 1.0


def test_who_is_in_one_snapshot_only_has_entered_or_left() -> None:
    """Shares are of those in both; the months are named by their last days."""
    events = [order("2025-01-05", customer_id="a"), order("2025-02-05", customer_id="b")]
    first, second = stability(snapshots(events, *MONTH_ENDS[:3]), load_model())["periods"]
    assert (first["from"], first["until"]) == ("2025-01-31", "2025-02-28")
    assert (first["customers"], first["entered"], first["left"]) == (1, 1, 0)
    assert (second["customers"], second["entered"], second["left"]) == (2, 0, 0)


def test_a_customer_who_falls_silent_is_seen_to_go_down() -> None:
    """From `high` to `medium` between two snapshots, and to `low` by the next: two transitions, both down."""
    events = [order(f"2024-{month:02}-05", "60.00") for month in range(1, 6)]
    found = stability(snapshots(events, "2024-05-31", "2024-08-31", "2024-12-31"), load_model())
    segment = found["dimensions"]["segment"]
    moves = {
        (segment["standings"][before], segment["standings"][after])
        for before, after in np.argwhere(np.array(segment["transitions"])).tolist()
    }
    assert moves == {("high", "medium"), ("medium", "low")}
    assert [period["downgraded_share"]["segment"] for period in found["periods"]] == [1.0, 1.0]
    assert "only 0% keep their segment from one snapshot to the next" in found["warnings"]


@pytest.mark.parametrize(("dwell_days", "kept"), [(7, [0.0, 0.0, 1.0]), (45, [0.0, 1.0, 0.0])])
def test_dwell_counts_from_the_last_change(dwell_days: int, kept: list[float]) -> None:
    """Who went from `high` to `medium` by October 28 is `low` a month later, or after 45 days, another month later."""
    events = [order(f"2024-{month:02}-05", "60.00") for month in range(1, 6)]
    dates = ("2024-05-28", "2024-10-28", "2024-11-28", "2024-12-28")
    found = stability(snapshots(events, *dates), model(hysteresis={"dwell_days": dwell_days}))
    assert [period["kept_share"]["segment"] for period in found["periods"]] == kept


def test_snapshots_may_come_one_at_a_time() -> None:
    """A generator gives what a list gives."""
    months = snapshots([order("2025-01-05"), order("2025-02-05")], *MONTH_ENDS)
    assert stability(iter(months), load_model()) == stability(months, load_model())


@pytest.mark.parametrize("dates", [(), MONTH_ENDS[:1]])
def test_fewer_than_two_snapshots_say_nothing_of_stability(dates: tuple[str, ...]) -> None:
    """And so does the report, with nulls in place of shares."""
    found = stability(snapshots([order("2025-01-05")], *dates), load_model())
    assert found["warnings"] == ["stability needs at least two snapshots: nothing can be said of it"]
    assert found["dimensions"]["segment"]["kept_share"] is None
    written(found)


def test_snapshots_without_a_customer_in_common_say_nothing_of_stability() -> None:
    """An empty one and a full one."""
    found = stability(snapshots([order("2025-02-05")], *MONTH_ENDS[:2]), load_model())
    assert found["warnings"] == ["no customer is in two snapshots: nothing can be said of stability"]
    written(found)
