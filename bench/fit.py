"""How long fits of lifetime value take, for a number of simulated customers.

    python -m bench.fit --customers 23000
    python -m bench.fit --customers 1000000

Histories are drawn from Pareto/NBD and Gamma-Gamma with the parameters published for CDNOW, first orders being spread
evenly over the weeks that are observed, in whole days as in the product. Prints each fit's parameters, which should be
near those that were drawn from, its seconds, and how many different histories there were.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import astuple

import numpy as np

from enrichment.calibration.fitting import fit_bg_nbd, fit_gamma_gamma, fit_pareto_nbd
from enrichment.calibration.snapshot import Histories
from enrichment.lifetime.lifetime_value import RECENT_DAYS

PURCHASES = {"r": 0.553, "alpha": 10.578, "s": 0.606, "beta": 11.669}
SPEND = {"p": 6.25, "q": 3.74, "gamma": 15.44}


def simulated(customers: int, weeks: float, seed: int) -> Histories:
    """Customers of a shop that has been open for so many weeks, in weeks."""
    random = np.random.default_rng(seed)
    observed = np.floor(random.uniform(0.0, weeks * 7, customers)) / 7
    rate = random.gamma(PURCHASES["r"], 1 / PURCHASES["alpha"], customers)
    leaving = random.gamma(PURCHASES["s"], 1 / PURCHASES["beta"], customers)
    end = np.minimum(random.exponential(1 / leaving), observed)
    x, last, now = np.zeros(customers), np.zeros(customers), np.zeros(customers)
    live = np.arange(customers)
    while live.size:
        now[live] += random.exponential(1 / rate[live])
        live = live[now[live] <= end[live]]
        day = np.ceil(now[live] * 7) / 7
        another = (day > last[live]) & (day <= observed[live])
        x[live] += another
        last[live] = np.where(another, day, last[live])
    scale = random.gamma(SPEND["q"], 1 / SPEND["gamma"], customers)
    spend = random.gamma(SPEND["p"] * np.maximum(x, 1)) / (scale * np.maximum(x, 1))
    mean_spend = np.where(x > 0, np.maximum(np.round(spend, 2), 0.01), np.nan)
    recent = np.zeros((customers, len(RECENT_DAYS)))  # no fit looks at them
    return Histories(7.0, np.arange(customers), x, last, observed, x, mean_spend, recent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--customers", type=int, default=23_000)
    parser.add_argument("--weeks", type=float, default=78.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    histories = simulated(options.customers, options.weeks, options.seed)
    different = len(np.unique(np.stack([histories.x, histories.t_x, histories.T]), axis=1).T)
    print(f"{options.customers:,} customers, {different:,} different histories, seed {options.seed}")
    for fit in (fit_pareto_nbd, fit_bg_nbd, fit_gamma_gamma):
        began = time.perf_counter(), time.process_time()
        found = fit(histories)
        wall, processor = time.perf_counter() - began[0], time.process_time() - began[1]
        numbers = (
            ", ".join(f"{value:.3f}" for value in astuple(found.parameters)) if found.parameters else "none"
        )
        print(
            f"{fit.__name__:16} {wall:8.1f} s ({processor:.1f} s of processor)  {found.status}: {numbers}",
            flush=True,
        )


if __name__ == "__main__":
    main()
