"""Ebbtide notices when customers slip, and says why.

Orders, engagements and consents go in. Profiles of customers, with scores and a standing, come out, and one event for
each change of standing: of `segment`, `tier` or `lifecycle`.

Look at your own orders, from a table:

    analysis = ebbtide.analyze("orders.csv")    # or a pandas DataFrame, or a list of dicts
    analysis.profiles                           # one row a customer: segment, tier, lifecycle, scores, traits
    analysis.changes                            # who moved, when, and from where to where
    analysis.refused                            # which rows were not taken, and why
    analysis.report("report.html")

Run logs of records (JSON Lines) through the same rules:

    replayed = ebbtide.replay(purchases="purchases.jsonl.gz", until="2025-06-30")
    replayed.changes, replayed.profiles, replayed.refused

Try a model out, or test your own code, record by record:

    from ebbtide.testing import order
    stream = ebbtide.LocalStream(ebbtide.load_model("model.yaml"))
    stream.take(order("2025-01-09", "120.00"))
    stream.pass_midnight("2025-06-01")
    stream.changes

Run the live worker, from Kafka and Redis to Kafka (or `ebbtide run`); this needs `pip install 'ebbtide[worker]'`:

    worker = ebbtide.Worker(ebbtide.Settings(kafka_bootstrap_servers="kafka:9092"))
    await worker.start()

| name | what it is |
|---|---|
| `analyze`, `Analysis` | tables of orders in, tables of customers and changes out |
| `replay` | logs of records in, everything the worker would have published out |
| `load_model`, `Model` | the value model: every number that scores and decides, from a YAML file |
| `decode` | the bytes of a record to an event, or to the reason why it is refused |
| `Enricher`, `Customer`, `Results` | the rules themselves, as pure functions of records and midnights |
| `LocalStream` | a stream in memory, for tests; more test doubles are in `ebbtide.testing` |
| `Settings`, `Worker` | the live worker |

Importing `ebbtide` is quick: each name loads what it needs when it is first used. Amounts are decimal strings or
integers in micro-units (`*_micros`). Times are UTC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebbtide.testing.local_stream import LocalStream
    from enrichment.customer.customer import Customer
    from enrichment.deciding.results import Results
    from enrichment.enricher import Enricher
    from enrichment.model import Model, load_model
    from schemas.decode import decode
    from streams.analysis.analysis import Analysis, analyze
    from streams.analysis.replaying import replay
    from streams.settings import Settings
    from streams.worker.worker import Worker

__all__ = [
    "Analysis",
    "Customer",
    "Enricher",
    "LocalStream",
    "Model",
    "Results",
    "Settings",
    "Worker",
    "analyze",
    "decode",
    "load_model",
    "replay",
]

_MODULE_OF = {
    "Analysis": "streams.analysis.analysis",
    "Customer": "enrichment.customer.customer",
    "Enricher": "enrichment.enricher",
    "LocalStream": "ebbtide.testing.local_stream",
    "Model": "enrichment.model",
    "Results": "enrichment.deciding.results",
    "Settings": "streams.settings",
    "Worker": "streams.worker.worker",
    "analyze": "streams.analysis.analysis",
    "decode": "schemas.decode",
    "load_model": "enrichment.model",
    "replay": "streams.analysis.replaying",
}

_HIDDEN = (
    "Any",
    "TYPE_CHECKING",
    "annotations",
    "import_module",
    "_MODULE_OF",
    "_is_there",
    "__dir__",
    "__getattr__",
)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ebbtide' has no attribute {name!r}")
    try:
        found = getattr(import_module(_MODULE_OF[name]), name)
    except ImportError as error:
        from streams.extras import extra_of, missing

        extra = extra_of(error)
        if extra is None:
            raise
        raise missing(f"ebbtide.{name}", extra) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The names whose packages are installed, so that `help(ebbtide)` shows those."""
    hidden = {*_HIDDEN, "_HIDDEN"}
    there = {name for name in __all__ if _is_there(name)}
    return sorted({*globals(), *there} - hidden)


def _is_there(name: str) -> bool:
    try:
        __getattr__(name)
    except ImportError:
        return False
    return True
