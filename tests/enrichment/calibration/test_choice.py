"""Which family goes into a model file, from fits of every status and from holdouts of which the answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from enrichment.calibration.choice import (
    FAMILIES,
    LEAST_HOLDOUT_PURCHASES,
    UNSEEN_SEASON,
    Choice,
    Family,
    FamilyCandidates,
    _agreement,
    choose,
    fit_candidates,
    some_of,
    use,
)
from enrichment.calibration.fitting import Fit
from enrichment.calibration.snapshot import Snapshot
from tests.enrichment.calibration.histories import Purchases, orders, snapshots
from tests.once import Once

Status = Literal["converged", "degenerate", "failed"]


@pytest.fixture(scope="module")
def candidates(once: Once) -> FamilyCandidates:
    """Fits to sixty customers, of whom every third buys every ten days."""
    return once("candidates", fit_sixty)


def fit_sixty() -> FamilyCandidates:
    purchases = {
        f"c{number}": [
            (on, 10.0 + number) for on in range(number, 200 if number % 3 == 0 else number + 25, 10)
        ]
        for number in range(60)
    }
    (snapshot,) = snapshots(orders(purchases), 220)
    return fit_candidates(snapshot, 7.0)


def with_statuses(
    candidates: FamilyCandidates,
    pareto: Status,
    bg: Status,
    hazard: str | None = None,
    recalibrated: str = "no cuts",
) -> FamilyCandidates:
    """The same fits as if they had ended otherwise."""
    fits: dict[Family, Fit] = {
        "pareto_nbd": replace(candidates.fits["pareto_nbd"], status=pareto, reason=f"{pareto} for a test"),
        "bg_nbd": replace(candidates.fits["bg_nbd"], status=bg, reason=f"{bg} for a test"),
        "mbg_cnbd_k": replace(candidates.fits["mbg_cnbd_k"], status="failed", reason="failed for a test"),
    }
    failed = {family for family, fit in fits.items() if fit.status == "failed"}
    faults: dict[Family, str] = {"recalibrated": recalibrated}
    if hazard:
        faults["empirical"] = hazard
    failed |= set(faults)
    models = {family: model for family, model in candidates.models.items() if family not in failed}
    return replace(candidates, fits=fits, models=models, faults=faults)


def chosen(*ranking: Family, better: tuple[Family, ...] = ()) -> Choice:
    """A choice by a holdout in which these families predicted better than the others."""
    deviance = {family: 1.0 if family in better else 2.0 for family in FAMILIES} if better else {}
    return Choice(ranking, deviance, "for a test", {})


@pytest.mark.parametrize(
    ("choice", "pareto", "bg", "family"),
    [
        (chosen(*FAMILIES), "converged", "converged", "pareto_nbd"),
        (chosen("bg_nbd", "pareto_nbd", "empirical"), "converged", "converged", "bg_nbd"),
        (chosen("empirical", "pareto_nbd", "bg_nbd"), "converged", "converged", "empirical"),
        (chosen(*FAMILIES), "degenerate", "converged", "bg_nbd"),
        (chosen(*FAMILIES), "degenerate", "degenerate", "empirical"),
        (chosen(*FAMILIES), "failed", "failed", "empirical"),
        (chosen(*FAMILIES, better=("pareto_nbd",)), "degenerate", "converged", "pareto_nbd"),
        (chosen(*FAMILIES, better=("pareto_nbd",)), "failed", "degenerate", "empirical"),
        (chosen(*FAMILIES, better=("empirical",)), "degenerate", "degenerate", "empirical"),
        (chosen(*FAMILIES, better=("pareto_nbd", "bg_nbd")), "degenerate", "converged", "bg_nbd"),
        (chosen("bg_nbd", better=("bg_nbd",)), "converged", "failed", "pareto_nbd"),
    ],
)
def test_the_best_usable_family_is_used(
    candidates: FamilyCandidates, choice: Choice, pareto: Status, bg: Status, family: Family
) -> None:
    """In the order of the ranking; a degenerate fit only of a family that predicted better than who would follow it."""
    used = use(choice, with_statuses(candidates, pareto, bg))
    assert used.family == family


def test_who_is_passed_over_is_named_with_the_reason(candidates: FamilyCandidates) -> None:
    """Never silently."""
    used = use(chosen(*FAMILIES), with_statuses(candidates, "degenerate", "failed"))
    assert used.set_aside == (
        "Pareto/NBD is set aside: degenerate: degenerate for a test",
        "BG/NBD is set aside: failed: failed for a test",
        "MBG/CNBD-k is set aside: failed: failed for a test",
    )


def test_a_degenerate_fit_that_was_tested_is_better_than_none(candidates: FamilyCandidates) -> None:
    """Where no family converged: used with its reason; one that no holdout has seen is not."""
    nobody = with_statuses(candidates, "degenerate", "failed", "no gaps")
    used = use(chosen(*FAMILIES, better=("pareto_nbd",)), nobody)
    assert used.family == "pareto_nbd"
    assert "there is no other to take its place" in used.reason
    assert use(chosen(*FAMILIES), nobody).family is None


def test_purchases_too_far_apart_to_be_held_by_day_need_no_empirical_hazard() -> None:
    """Nothing older than 800 days is counted by day; the other families still are fitted and chosen from."""
    far_apart = {f"c{number}": [(number, 10.0), (number + 900, 12.0)] for number in range(120)}
    before, after = pair(far_apart, 960, 1_060)
    choice = choose([before], after, 7.0)
    assert "empirical" not in choice.deviance
    assert "too long ago to be held by day" in fit_candidates(before, 7.0).faults["empirical"]


def test_where_nothing_is_left_there_is_a_reason_instead(candidates: FamilyCandidates) -> None:
    """All failed, or too few have bought again."""
    nothing = use(chosen(*FAMILIES), with_statuses(candidates, "failed", "degenerate", "no gaps"))
    assert nothing.family is None
    assert "the empirical hazard is set aside: no gaps" in nothing.reason
    refused = use(chosen(*FAMILIES), replace(candidates, refused="too few"))
    assert (refused.family, refused.reason) == (None, "too few")


def regulars(random: np.random.Generator, stop_at: int) -> Purchases:
    """Ninety customers of paces from 6 to 30 days, a third of whom stop at a day for good."""
    purchases = {}
    for number in range(90):
        on, mine = int(random.integers(0, 40)), []
        while on <= (stop_at if number % 3 == 0 else 400):
            mine.append((on, 20.0))
            on += 1 + int(random.exponential(5.0 + number % 25))
        purchases[f"c{number}"] = mine
    return purchases


def pair(purchases: Purchases, *days: int) -> tuple[Snapshot, Snapshot]:
    before, after = snapshots(orders(purchases), *days)
    return before, after


def test_a_holdout_ranks_all_families_and_gives_the_figures_behind_it() -> None:
    """Every family is measured; the first in the ranking is named in the reason."""
    before, after = pair(regulars(np.random.default_rng(2), 150), 200, 290)
    choice = choose([before], after, 7.0)
    measured = [family for family in FAMILIES if choice.report[family] is not None]
    assert sorted(choice.ranking) == sorted(measured)
    assert {"pareto_nbd", "bg_nbd", "empirical"} <= set(measured)
    assert choice.report["days"] == 90
    assert choice.report["purchases"] >= LEAST_HOLDOUT_PURCHASES
    for family in measured:
        assert choice.report[family]["mean_poisson_deviance"] > 0
    assert "is first, by the mean Poisson deviance over the 90 days" in choice.reason


def test_a_holdout_in_which_next_to_nothing_happens_decides_nothing() -> None:
    """Fewer purchases than it takes: the order of preference holds, and the reason says so."""
    everyone = regulars(np.random.default_rng(2), 150)
    over = {customer_id: [day for day in days if day[0] <= 200] for customer_id, days in everyone.items()}
    before, after = pair(over, 200, 290)
    choice = choose([before], after, 7.0)
    assert choice.ranking == FAMILIES
    assert choice.deviance == {}
    assert choice.reason.startswith("the holdout to choose by has only 0 purchases")


def test_without_a_holdout_pareto_nbd_is_preferred() -> None:
    """None, one of no length, and one that begins before anyone has come back."""
    purchases = regulars(np.random.default_rng(2), 150)
    early, late = pair(purchases, 5, 290)
    for choice in (choose([], late, 7.0), choose([late], late, 7.0), choose([early], late, 7.0)):
        assert choice.ranking == FAMILIES
        assert "converges is used" in choice.reason


def test_shorter_holdouts_say_whether_they_agree_and_the_longest_decides() -> None:
    """Each has its own ranking in the report; the choice is that of the longest alone."""
    purchases = regulars(np.random.default_rng(2), 150)
    *befores, after = snapshots(orders(purchases), 200, 230, 260, 290)
    rolling, alone = choose(befores, after, 7.0), choose(befores[:1], after, 7.0)
    assert (rolling.ranking, rolling.deviance) == (alone.ranking, alone.deviance)
    told = rolling.report["rolling"]
    assert [each["days"] for each in told] == [90, 60, 30]
    assert told[2]["first"] == choose(befores[2:], after, 7.0).ranking[0]
    agree = len({each["first"] for each in told}) == 1
    assert ("; it is by the last 60 and 30 days too" in rolling.reason) is agree
    assert ("but the longer period decides" in rolling.reason) is not agree


@pytest.mark.parametrize(("first", "second"), [("pareto_nbd", "pareto_nbd"), ("pareto_nbd", "bg_nbd")])
def test_disagreement_is_told_in_words(first: Family, second: Family) -> None:
    """Where a shorter period would have chosen another family, it is named."""
    told = [{"days": 90, "first": first}, {"days": 60, "first": second}, {"days": 30, "first": first}]
    expected = {
        "pareto_nbd": "; it is by the last 60 and 30 days too",
        "bg_nbd": "; BG/NBD by the last 60 days alone, but the longer period decides",
    }
    assert _agreement(told) == expected[second]


def test_a_season_that_the_history_has_not_seen_is_told() -> None:
    """Two years, or half a one, before the days to choose by."""
    for days, is_seen in (((800, 860), True), ((200, 260), False)):
        random = np.random.default_rng(4)
        purchases = {
            f"c{number}": [
                (int(on), 9.0) for on in np.cumsum(random.integers(5, 40, size=60)) if on <= days[1]
            ]
            for number in range(60)
        }
        before, after = pair(purchases, *days)
        choice = choose([before], after, 7.0)
        assert choice.report["is_season_seen"] is is_seen
        assert (UNSEEN_SEASON in choice.reason) is not is_seen


def test_of_very_many_customers_every_second_or_third_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """By id, so that the same records give the same choice."""
    (snapshot,) = snapshots(orders({f"c{number:02d}": [(number, 5.0)] for number in range(50)}), 60)
    assert some_of(snapshot) is snapshot
    monkeypatch.setattr("enrichment.calibration.choice.MOST_CUSTOMERS", 20)
    assert some_of(snapshot).customer_ids == snapshot.customer_ids[::3]
