"""All benchmarks: `make bench`, or `python -m bench`; `--quick` runs a tiny form of each, in a few minutes.

The report goes to standard output as Markdown, and with `--json FILE` to a file too, which is written anew after each
part; progress goes to standard error. A part that fails does not keep the others from being run and reported; the exit
code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from bench import first_load, latency, live_cores, pipeline, profiling, replay, scale, sweep
from bench.drain import Services
from bench.latency import Rates
from bench.pipeline import Sizes
from bench.report import Failures, Part, document, markdown
from bench.scale import Scales
from ebbtide.testing.services import start_kafka, start_own_redis

PARTS = (
    "pipeline",
    "cores",
    "replay",
    "load",
    "latency",
    "processes",
    "recovery",
    "sweep",
    "profile",
    "customers",
)
"""In the order in which they are run: the longest at the end."""


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="which benchmarks (all)")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that everything works")
    parser.add_argument("--events", type=int, help="in the log that Ebbtide drains")
    parser.add_argument(
        "--prefix", type=int, help="events of it that slow contenders drain; a multiple of 2,000"
    )
    parser.add_argument("--runs", type=int, help="of each contender")
    parser.add_argument(
        "--rates", nargs="+", type=float, metavar="PER_S", help="at which latency is measured"
    )
    parser.add_argument("--seconds", type=float, help="for which each of these rates is offered")
    parser.add_argument(
        "--customers", nargs="+", type=int, help="in Redis, when Ebbtide drains a log; up to 10000000"
    )
    parser.add_argument("--sweep-customers", type=int, help="who are due at once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    return parser.parse_args(arguments)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """How large the logs are."""
    small = {"events": 4_000, "customers": 1_500, "prefix": 1_000, "warm_up": 500, "runs": 1}
    return Sizes(**_chosen(options, small, events="events", prefix="prefix", runs="runs"))


def rates_of(options: argparse.Namespace) -> Rates:
    """What is offered to measure latency."""
    small = {
        "per_s": (1.0, 500.0),
        "seconds": 10.0,
        "warm_up_s": 3.0,
        "customers": 1_500,
        "broker_warm_up_s": 5.0,
    }
    return Rates(**_chosen(options, small, per_s="rates", seconds="seconds"))


def scales_of(options: argparse.Namespace) -> Scales:
    """How many processes and customers."""
    small = {
        "customers": (200, 2_000),
        "events": 1_000,
        "process_events": 2_000,
        "recovery_customers": 2_000,
        "rebuild_events": 1_000,
    }
    return Scales(**_chosen(options, small, customers="customers"))


def sweep_of(options: argparse.Namespace) -> sweep.Options:
    """How large the sweep is."""
    small = {"customers": 4_000, "events_per_s": 50.0, "after_s": 6.0}
    return sweep.Options(**_chosen(options, small, customers="sweep_customers"))


def sizing_of(options: argparse.Namespace) -> profiling.Sizing:
    """How much is done while the worker is looked at."""
    small = {"events": 2_000, "sweep_customers": 4_000, "load_per_s": 500.0}
    return profiling.Sizing(load=rates_of(options), **_chosen(options, small))


def _chosen(options: argparse.Namespace, small: dict[str, Any], **names: str) -> dict[str, Any]:
    """The tiny form's values if it is asked for, and what the command line gives, by field and option."""
    given = {field: getattr(options, name) for field, name in names.items()}
    chosen = {field: value for field, value in given.items() if value is not None}
    return {**(small if options.quick else {}), **chosen}


def runs_of(options: argparse.Namespace, services: Services) -> dict[str, Callable[[], Part]]:
    """Every part that was asked for, in order."""
    sizes, scales = sizes_of(options), scales_of(options)
    logs = pipeline.make_logs(sizes)
    runs: dict[str, Callable[[], Part]] = {
        "pipeline": partial(pipeline.run, services, sizes, logs, say),
        "cores": partial(live_cores.run, services, sizes, logs, say),
        "replay": partial(replay.run, services, sizes, logs, say),
        "load": partial(first_load.run, services, sizes, logs, say),
        "latency": partial(latency.run, services, rates_of(options), logs, say),
        "processes": partial(scale.over_processes, services, sizes, scales, logs, say),
        "recovery": partial(scale.recovery, services, sizes, scales, logs, say),
        "sweep": partial(sweep.run, services, sweep_of(options)),
        "profile": partial(profiling.run, services, sizes, sizing_of(options), logs, say),
        "customers": partial(scale.over_customers, services, sizes, scales, logs, say),
    }
    return {name: runs[name] for name in PARTS if name in options.only}


def run(
    runs: Mapping[str, Callable[[], Part]], keep: Callable[[dict[str, Part], Failures], None]
) -> tuple[dict[str, Part], Failures]:
    """What each part found, and why those that found nothing failed; `keep` gets both after each part."""
    parts: dict[str, Part] = {}
    failures: Failures = {}
    for name, run_part in runs.items():
        say(f"{name} …")
        try:
            parts[name] = run_part()
        except Exception as error:
            traceback.print_exc()
            failures[name] = f"{type(error).__name__}: {error}"
        keep(parts, failures)
    return parts, failures


def main() -> int:
    """Run, print and write; gives the exit code."""
    options = options_of()
    with start_kafka() as kafka, start_own_redis() as redis:
        origin = f"{kafka.origin}, {Path(redis.origin).name}"
        if not kafka.is_real:
            sys.exit(f"benchmarks need a real Apache Kafka; found: {kafka.origin}")

        def keep(parts: dict[str, Part], failures: Failures) -> None:
            if options.json is not None:
                found = orjson.dumps(document(parts, origin, failures), option=orjson.OPT_INDENT_2)
                options.json.write_bytes(found + b"\n")

        parts, failures = run(runs_of(options, Services(kafka, redis)), keep)
    print(markdown(parts, origin, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
