"""Which family goes into a model file, from fits of every status and from holdouts of which the answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from enrichment.calibration.choice import (
    FAMILIES,
    LEAST_HOLDOUT_PURCHASES,
    Candidates,
    Choice,
    Family,
    choose,
    fit_candidates,
    use,
)
from enrichment.calibration.fitting import Fit
from enrichment.calibration.snapshot import Snapshot
from tests.enrichment.calibration.histories import Purchases, orders, snapshots

Status = Literal["converged", "degenerate", "failed"]


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    """Fits to sixty customers, of whom every third buys every ten days."""
    purchases = {
        f"c{number}": [
            (on, 10.0 + number) for on in range(number, 200 if number % 3 == 0 else number + 25, 10)
        ]
        for number in range(60)
    }
    (snapshot,) = snapshots(orders(purchases), 220)
    return fit_candidates(snapshot, 7.0)


def with_statuses(
    candidates: Candidates, pareto: Status, bg: Status, hazard: str | None = None
) -> Candidates:
    """The same fits as if they had ended otherwise."""
    fits: dict[Family, Fit] = {
        "pareto_nbd": replace(candidates.fits["pareto_nbd"], status=pareto, reason=f"{pareto} for a test"),
        "bg_nbd": replace(candidates.fits["bg_nbd"], status=bg, reason=f"{bg} for a test"),
    }
    failed = {family for family, fit in fits.items() if fit.status == "failed"}
    failed |= {"empirical"} if hazard else set()
    models = {family: model for family, model in candidates.models.items() if family not in failed}
    return replace(candidates, fits=fits, models=models, hazard_reason=hazard)


def chosen(*ranking: Family, held: tuple[Family, ...] = ()) -> Choice:
    return Choice(ranking, frozenset(held), "for a test", {})


@pytest.mark.parametrize(
    ("choice", "pareto", "bg", "family"),
    [
        (chosen(*FAMILIES), "converged", "converged", "pareto_nbd"),
        (chosen("bg_nbd", "pareto_nbd", "empirical"), "converged", "converged", "bg_nbd"),
        (chosen("empirical", "pareto_nbd", "bg_nbd"), "converged", "converged", "empirical"),
        (chosen(*FAMILIES), "degenerate", "converged", "bg_nbd"),
        (chosen(*FAMILIES), "degenerate", "degenerate", "empirical"),
        (chosen(*FAMILIES), "failed", "failed", "empirical"),
        (chosen(*FAMILIES, held=("pareto_nbd",)), "degenerate", "converged", "pareto_nbd"),
        (chosen(*FAMILIES, held=("pareto_nbd",)), "failed", "degenerate", "empirical"),
        (chosen("bg_nbd", held=("bg_nbd",)), "converged", "failed", "pareto_nbd"),
    ],
)
def test_the_best_usable_family_is_used(
    candidates: Candidates, choice: Choice, pareto: Status, bg: Status, family: Family
) -> None:
    """In the order of the ranking; a degenerate fit only of a family whose predictions held; then the others."""
    used = use(choice, with_statuses(candidates, pareto, bg))
    assert used.family == family


def test_who_is_passed_over_is_named_with_the_reason(candidates: Candidates) -> None:
    """Never silently."""
    used = use(chosen(*FAMILIES), with_statuses(candidates, "degenerate", "failed"))
    assert used.set_aside == (
        "Pareto/NBD is set aside: degenerate: degenerate for a test",
        "BG/NBD is set aside: failed: failed for a test",
    )


def test_where_nothing_is_left_there_is_a_reason_instead(candidates: Candidates) -> None:
    """All three failed, or too few have bought again."""
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
    choice = choose(*pair(regulars(np.random.default_rng(2), 150), 200, 290), 7.0)
    assert sorted(choice.ranking) == sorted(FAMILIES)
    assert choice.report["days"] == 90
    assert choice.report["purchases"] >= LEAST_HOLDOUT_PURCHASES
    for family in FAMILIES:
        assert choice.report[family]["mean_poisson_deviance"] > 0
    assert "is first, by the mean Poisson deviance over the 90 days" in choice.reason


def test_a_holdout_in_which_next_to_nothing_happens_decides_nothing() -> None:
    """Fewer purchases than it takes: the order of preference holds, and the reason says so."""
    everyone = regulars(np.random.default_rng(2), 150)
    over = {customer_id: [day for day in days if day[0] <= 200] for customer_id, days in everyone.items()}
    choice = choose(*pair(over, 200, 290), 7.0)
    assert choice.ranking == FAMILIES
    assert choice.held == frozenset()
    assert choice.reason.startswith("the holdout to choose by has only 0 purchases")


def test_without_a_holdout_pareto_nbd_is_preferred() -> None:
    """None, one of no length, and one that begins before anyone has come back."""
    purchases = regulars(np.random.default_rng(2), 150)
    early, late = pair(purchases, 5, 290)
    for choice in (choose(None, late, 7.0), choose(late, late, 7.0), choose(early, late, 7.0)):
        assert choice.ranking == FAMILIES
        assert "converges is used" in choice.reason
