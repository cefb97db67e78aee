"""All benchmarks: `make bench`, or `python -m bench`; `--quick` runs a tiny form of each, which takes two minutes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import orjson

from bench import pipeline, replay
from bench.drain import Services
from bench.pipeline import Sizes
from bench.report import Part, document, markdown
from tests.services import start_kafka, start_own_redis

PARTS = ("pipeline", "replay")


def say(text: str) -> None:
    """Progress goes to standard error, the report to standard output."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="which benchmarks (all)")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that everything works")
    parser.add_argument("--events", type=int, help="in the log that Ebbtide drains")
    parser.add_argument("--runs", type=int, help="of each contender")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    return parser.parse_args(arguments)


def sizes_of(options: argparse.Namespace) -> Sizes:
    """How large the logs are."""
    small = {"events": 4_000, "customers": 1_500, "prefix": 1_000, "warm_up": 500, "runs": 1}
    chosen = small if options.quick else {}
    given = {name: getattr(options, name) for name in ("events", "runs") if getattr(options, name)}
    return Sizes(**{**chosen, **given})


def run(options: argparse.Namespace, services: Services) -> dict[str, Part]:
    """Every part that was asked for, in order."""
    sizes = sizes_of(options)
    logs = pipeline.make_logs(sizes)
    parts: dict[str, Part] = {}
    if "pipeline" in options.only:
        parts["pipeline"] = pipeline.run(services, sizes, logs, say)
    if "replay" in options.only:
        parts["replay"] = replay.run(services, sizes, logs, say)
    return parts


def main() -> None:
    """Run, print and write."""
    options = options_of()
    with start_kafka() as kafka, start_own_redis() as redis:
        origin = f"{kafka.origin}, {Path(redis.origin).name}"
        if not kafka.is_real:
            sys.exit(f"benchmarks need a real Apache Kafka; found: {kafka.origin}")
        parts = run(options, Services(kafka, redis))
    print(markdown(parts, origin))
    if options.json is not None:
        options.json.write_bytes(orjson.dumps(document(parts, origin), option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
