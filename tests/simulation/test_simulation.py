"""Exactly once, whatever goes wrong: many seeds; each can be run again alone with `--seed N`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.invariants import violations
from tests.simulation.mutations import MUTATIONS
from tests.simulation.runs import first_to_notice, run_mutated, run_seed
from tests.simulation.world import simulate

pytestmark = pytest.mark.timeout(2_400)

SEEDS = 100
DEEP_SEEDS = 500
AT_ONCE = 10
MOST_SEEDS = 2_000
ROOT = Path(__file__).parents[2]


def portions() -> list[Any]:
    """The seeds in portions, so that several processes share them; those beyond the first 100 are deep."""
    starts = range(0, DEEP_SEEDS, AT_ONCE)
    return [pytest.param(start, marks=[pytest.mark.deep] * (start >= SEEDS)) for start in starts]


@pytest.mark.parametrize("first", portions())
def test_whatever_goes_wrong_every_change_is_published_once(first: int, pytestconfig: pytest.Config) -> None:
    """With `--seed N`, that run alone, with its trace; else the first seeds. `make simulate` tries others."""
    given = pytestconfig.getoption("--seed")
    if given is not None:
        if first > 0:
            pytest.skip("--seed names one run, which the first portion makes")
        outcome = simulate(int(given), is_quiet=False)
        found = violations(outcome)
        print(f"{outcome.scenario}\nfaults: {outcome.faults}", *outcome.trace, sep="\n")
        assert found == []
        return
    bad = [result for result in map(run_seed, range(first, first + AT_ONCE)) if result.violations]
    assert bad == [], f"run again with --seed {bad[0].seed}"


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """Else a seed that found something could not be run again: hashes and identities differ there."""
    program = (
        "from tests.simulation.world import simulate\n"
        "outcome = simulate(7)\n"
        "print(len(outcome.kafka.commits), outcome.faults)\n"
        "print(*outcome.trace, sep='\\n')"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) > 10


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_protocol_that_breaks_a_rule_is_noticed(mutation: str) -> None:
    """At the seed on record, which finds nothing in the protocol as it is.

    Where it does not notice, the record is wrong: the failure names the first of 2,000 seeds that does.
    """
    seed = MUTATIONS[mutation].seed
    assert run_seed(seed, "python").violations == []
    if not run_mutated(mutation, seed).violations:
        found = first_to_notice(mutation, MOST_SEEDS)
        pytest.fail(
            f"seed {seed}, on record in mutations.py, does not notice it; the first that does: {found}"
        )
