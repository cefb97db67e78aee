"""Many seeds on all cores: `python -m tests.simulation.runs --runs 10000 --first 0`, which is `make simulate`."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from enrichment.kernel import Wanted
from tests.simulation.invariants import violations
from tests.simulation.mutations import MUTATIONS
from tests.simulation.world import simulate

CHUNK_SEEDS = 10
REPORT_EVERY = 500


class Result(NamedTuple):
    """What came of one seed."""

    seed: int
    violations: list[str]
    faults: dict[str, int]
    transactions: int


def run_seed(seed: int, core: Wanted = "auto") -> Result:
    """Simulate one seed and check it; an error that a run ends with is a violation too."""
    try:
        outcome = simulate(seed, core=core)
        return Result(seed, violations(outcome), outcome.faults, len(outcome.kafka.commits))
    except Exception as error:
        return Result(seed, [f"{type(error).__name__}: {error}"], {}, 0)


def run_seeds(seeds: Iterable[int]) -> Iterator[Result]:
    """Simulate seeds on all cores, in no order."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count()) as pool:
        yield from pool.imap_unordered(run_seed, seeds, CHUNK_SEEDS)


def run_mutated(mutation: str, seed: int) -> Result:
    """Simulate one seed with a mutation; by the Python core, so that a seed finds the same on every machine."""
    with MUTATIONS[mutation].broken():
        return run_seed(seed, "python")


def first_to_notice(mutation: str, most_seeds: int) -> int | None:
    """The first of so many seeds with which the simulation notices a mutation."""
    return next((seed for seed in range(most_seeds) if run_mutated(mutation, seed).violations), None)


def main() -> int:
    """Run the seeds that the command line names; 1 if anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    chosen = parser.parse_args()
    started_s, bad, faults = time.monotonic(), 0, Counter[str]()
    transactions = 0
    for number, result in enumerate(run_seeds(range(chosen.first, chosen.first + chosen.runs)), start=1):
        faults.update(result.faults)
        transactions += result.transactions
        if result.violations:
            bad += 1
            print(f"seed {result.seed}:", *result.violations, sep="\n  ", flush=True)
        if number % REPORT_EVERY == 0:
            print(f"{number} runs, {time.monotonic() - started_s:.0f} s, {bad} bad", flush=True)
    print(
        f"{chosen.runs} runs from seed {chosen.first}: {bad} bad; {transactions} transactions; faults injected:"
    )
    print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in faults.most_common()))
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
