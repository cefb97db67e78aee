"""Exactly once, whatever goes wrong: many seeds; each can be run again alone with `--seed N`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.invariants import violations
from tests.simulation.mutations import MUTATIONS
from tests.simulation.runs import Result, catch_mutations, run_seeds
from tests.simulation.world import simulate

pytestmark = pytest.mark.timeout(2_400)

SEEDS = 500
MOST_SEEDS = 2_000
ROOT = Path(__file__).parents[2]


def test_whatever_goes_wrong_every_change_is_published_once(pytestconfig: pytest.Config) -> None:
    """With `--seed N`, that run alone, with its trace; else the first seeds. `make simulate` tries others."""
    given = pytestconfig.getoption("--seed")
    if given is not None:
        outcome = simulate(int(given), is_quiet=False)
        found = violations(outcome)
        print(f"{outcome.scenario}\nfaults: {outcome.faults}", *outcome.trace, sep="\n")
        assert found == []
        return
    bad = [result for result in run_seeds(range(SEEDS)) if result.violations]
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


@pytest.fixture(scope="module")
def caught() -> dict[str, Result | None]:
    return catch_mutations(MOST_SEEDS)


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_protocol_that_breaks_a_rule_is_noticed(mutation: str, caught: dict[str, Result | None]) -> None:
    """Within 2,000 seeds; the same seed finds nothing in the protocol as it is."""
    result = caught[mutation]
    assert result is not None
    assert violations(simulate(result.seed)) == []
