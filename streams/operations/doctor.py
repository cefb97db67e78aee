"""What must hold around the worker: settings, model, Kafka, its topics and transactions, Redis, partitions, the clock.

`ebbtide doctor` prints all findings; the worker calls those at its start that concern all of it, and ends on an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Literal

import redis

from streams.errors import EbbtideError, one_line
from streams.kafka.admin import admin_client
from streams.kafka.topics import check_topics
from streams.kafka.transactional_ids import transactional_ids_prefix
from streams.operations.kafka_rights import missing_rights
from streams.operations.open_transactions import open_transactions
from streams.operations.partition_survey import survey
from streams.operations.web_port import address_of, taken, tenant
from streams.settings import DEFAULT_ERASURE_KEY, Settings
from streams.settings.kafka_security import lacks_rights
from streams.state.keys import PartitionKeys
from streams.state.partition_facts import Facts, wrong_erasure_key
from streams.state.redis_check import refusals, role_problems
from streams.state.redis_client import connect_blocking

REDIS_TIMEOUT_S: Final = 5.0
TRANSACTIONS_TIMEOUT_S: Final = 20.0
_READS_STABLE_OFFSETS: Final = 7
"""The version of OffsetFetch from which a broker can be asked for stable offsets only (Kafka 2.5)."""
_ASKED_AT_ONCE: Final = 1_024
GUESSES: Final = (
    "its numbers are guesses, fitted to nobody's customers; `ebbtide calibrate --from-kafka --out model.yaml` fits a "
    "model to yours, and EBBTIDE_MODEL=model.yaml makes it the worker's"
)
_OLDEST_REDIS: Final = (6, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check's result."""

    check: str
    status: Literal["ok", "warning", "error"]
    message: str


def run_checks(settings: Settings) -> list[Finding]:
    """All checks, in the order in which a start needs them."""
    findings = [Finding("settings", "ok", "valid"), *check_model(settings), *check_core(settings)]
    findings += [*check_kafka(settings), *check_redis(settings)]
    if all(finding.status != "error" for finding in findings):
        findings += [*check_open_transactions(settings), *check_partitions(settings)]
    return [*findings, *check_clock(settings), *check_web_port(settings), *check_erasure_key(settings)]


def require(findings: Sequence[Finding]) -> list[str]:
    """The warnings among `findings`, as lines to log.

    Raises:
        EbbtideError: there are errors; all of them in one line.
    """
    errors = [f"{finding.check}: {finding.message}" for finding in findings if finding.status == "error"]
    if errors:
        raise EbbtideError("; ".join(errors))
    return [f"{finding.check}: {finding.message}" for finding in findings if finding.status == "warning"]


def check_model(settings: Settings) -> list[Finding]:
    """Whether the model can be loaded, in the base currency that the settings ask for."""
    try:
        model = settings.load_model()
    except EbbtideError as error:
        return [Finding("model", "error", str(error))]
    told = f"{model.name} {model.version} ({settings.model or 'built in'}), in {model.base_currency}"
    if settings.model is None:
        return [Finding("model", "warning", f"{told}: {GUESSES}")]
    return [Finding("model", "ok", told)]


def check_core(settings: Settings) -> list[Finding]:
    """Which core the setting asks for, and whether there is one; the worker has the Python core."""
    from enrichment.kernel import KernelError, core_of, told

    try:
        name = core_of(settings.core).name
    except KernelError as error:
        return [Finding("core", "error", f"EBBTIDE_CORE={settings.core}: {error}")]
    return [Finding("core", "ok", f"{name}, for replays; {told()}")]


def check_kafka(settings: Settings) -> list[Finding]:
    """Whether a broker answers, allows what a worker does, and has topics as they must be, and needed transactions."""
    try:
        lacking = missing_rights(settings)
        if lacking:
            return [Finding("kafka", "error", lacks_rights(settings, *lacking))]
        report = check_topics(settings)
    except EbbtideError as error:
        return [Finding("kafka", "error", str(error))]
    findings = [Finding("kafka", "ok", f"{settings.kafka_bootstrap_servers} answers")]
    findings += [Finding("topics", "error", line) for line in report.errors]
    findings += [Finding("topics", "warning", line) for line in report.warnings]
    if not report.errors:
        findings.append(
            Finding("topics", "ok", f"{len(report.topics)} topics of {report.partitions} partitions")
        )
    return [*findings, *check_transactions(settings)]


def check_open_transactions(settings: Settings) -> list[Finding]:
    """Transactions that hide records of an input: an error where one has been open for long, else a warning."""
    try:
        found = open_transactions(settings)
    except EbbtideError as error:
        return [
            Finding("open transactions", "warning", f"the inputs' producers cannot be asked for: {error}")
        ]
    servers = settings.kafka_bootstrap_servers
    return [
        Finding(
            "open transactions", "error" if open_one.is_long_open else "warning", open_one.message(servers)
        )
        for open_one in found
    ]


def check_transactions(settings: Settings) -> list[Finding]:
    """Whether the broker serves a transactional id of ours, asked by the client that the worker uses.

    The list of requests that a broker says it supports proves little: the embedded broker lists all of them.
    The id used here is no partition's, so no running worker is fenced.
    """
    if settings.processing_guarantee == "at_least_once":
        return [Finding("transactions", "ok", "not needed with at_least_once")]
    allowed = "set EBBTIDE_PROCESSING_GUARANTEE=at_least_once to do without"
    try:
        newest_version = _offset_fetch_version(settings)
    except EbbtideError as error:
        return [Finding("transactions", "error", str(error))]
    if newest_version < _READS_STABLE_OFFSETS:
        return [Finding("transactions", "error", f"exactly_once needs Kafka 2.5 or later; {allowed}")]
    with ThreadPoolExecutor(1) as thread:  # the caller may have a running event loop of its own
        problem = thread.submit(lambda: asyncio.run(_begin_as_a_producer(settings))).result()
    if problem is not None:
        reason = f"the broker has no transactions for exactly_once ({problem}); {allowed}"
        return [Finding("transactions", "error", reason)]
    return [Finding("transactions", "ok", "supported")]


def check_redis(settings: Settings) -> list[Finding]:
    """Whether Redis answers, takes what a worker writes, and never evicts.

    An evicted key would read as a customer never seen before.
    """
    where = f"{settings.redis_address} (setting EBBTIDE_REDIS_URL)"
    try:
        with connect_blocking(settings, REDIS_TIMEOUT_S) as client:
            with contextlib.suppress(redis.ResponseError):  # that is an answer too
                client.ping()
            info = _redis_info(client)
            problems = role_problems(info or {}) or refusals(client, settings)
    except redis.AuthenticationError as error:
        return [Finding("redis", "error", f"Redis at {where} refuses this account: {one_line(error)}")]
    except (redis.RedisError, OSError, ValueError) as error:
        return [Finding("redis", "error", f"Redis does not answer at {where}: {one_line(error)}")]
    version = str((info or {}).get("redis_version", ""))
    if is_old_redis(version):
        reason = f"Redis at {where} must be 6.2 or later, not {version}"
        return [Finding("redis", "error", reason)]
    if problems:
        return [Finding("redis", "error", f"Redis at {where}: {problem}") for problem in problems]
    findings = [Finding("redis", "ok", f"{settings.redis_address} answers, and takes writes")]
    policy = (info or {}).get("maxmemory_policy")
    if policy is None:
        why = " to this account: it lacks the right +info" if info is None else ""
        return [*findings, Finding("redis", "warning", f"Redis does not report maxmemory-policy{why}")]
    if policy != "noeviction":
        reason = f"maxmemory-policy of Redis at {where} must be noeviction, not {policy}"
        return [Finding("redis", "error", reason)]
    return [*findings, Finding("redis", "ok", "maxmemory-policy is noeviction")]


def _redis_info(client: Any) -> dict[str, Any] | None:
    """What Redis tells of itself; None where this account may not ask."""
    try:
        told: dict[str, Any] = client.info()
    except redis.exceptions.NoPermissionError:
        return None
    return told


def is_old_redis(version: str) -> bool:
    """Whether a version such as `6.0.16` lacks what the worker asks for; not where none is told."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    return bool(numbers) and numbers < _OLDEST_REDIS


def check_partitions(settings: Settings) -> list[Finding]:
    """Which partition stopped and why, and which a recovery would stop; needs a model, Kafka, its topics and Redis."""
    with ThreadPoolExecutor(1) as thread:  # the caller may have a running event loop of its own
        try:
            standings = thread.submit(lambda: asyncio.run(survey(settings, settings.load_model()))).result()
        except EbbtideError as error:
            return [Finding("partitions", "error", str(error))]
    well = Counter(standing.message for standing in standings if standing.status == "ok")
    findings = [Finding("partitions", "ok", f"{count}: {message}") for message, count in well.items()]
    return findings + [
        Finding("partitions", standing.status, standing.message)
        for standing in standings
        if standing.status != "ok"
    ]


def check_clock(settings: Settings, now_s: Callable[[], float] = time.time) -> list[Finding]:
    """Whether Redis' `TIME` and our clock agree within `max_clock_skew_s`; empty where Redis does not answer.

    With `clock: wall`, no midnight passes while they do not.
    """
    try:
        with connect_blocking(settings, REDIS_TIMEOUT_S) as client:
            client.ping()  # connects first, so that connecting is not taken for skew
            before_s = now_s()
            seconds, microseconds = client.time()
            after_s = now_s()
    except (redis.RedisError, OSError, ValueError):
        return []
    redis_s = seconds + microseconds / 1_000_000
    skew_s = max(before_s - redis_s, redis_s - after_s, 0.0)
    if skew_s <= settings.max_clock_skew_s:
        return [Finding("clock", "ok", f"agrees with Redis' to {settings.max_clock_skew_s:g} s")]
    allowed = f"{settings.max_clock_skew_s:g} s (setting EBBTIDE_MAX_CLOCK_SKEW_S)"
    reason = f"this machine's is {skew_s:.1f} s from Redis' TIME, more than {allowed}"
    return [Finding("clock", "error" if settings.clock == "wall" else "warning", reason)]


def check_web_port(settings: Settings) -> list[Finding]:
    """Whether a worker could listen on its port, or one of this group does already, and what that one says."""
    try:
        found = tenant(settings)
    except EbbtideError as error:
        return [Finding("web port", "error", str(error))]
    if found.kind == "other":
        return [Finding("web port", "error", taken(settings, found))]
    if found.kind == "nobody":
        return [Finding("web port", "ok", f"{address_of(settings)} is free")]
    told = found.told or {}
    if told.get("reason") is not None:
        said = f"{found.who} at {address_of(settings)} is not ready: {one_line(str(told['reason']))}"
        return [Finding("web port", "warning" if told.get("failure") is None else "error", said)]
    return [Finding("web port", "ok", f"{found.who} answers at {address_of(settings)}, and is ready")]


def check_erasure_key(settings: Settings) -> list[Finding]:
    """Whether erased ids are hidden by a key of one's own, and every key that was used before is still there.

    Where Redis does not answer, or was emptied, the recovery of each partition asks `ebbtide-decisions`.
    """
    if settings.has_default_erasure_key:
        reason = (
            "the built-in key hides nothing, since everyone knows it: set EBBTIDE_ERASURE_KEY (or "
            "EBBTIDE_ERASURE_KEY_FILE) to a secret of your own, and keep it; if version 0.1 ran with the built-in key, "
            f"set EBBTIDE_EARLIER_ERASURE_KEYS to {DEFAULT_ERASURE_KEY} too"
        )
        return [Finding("erasure key", "error", reason)]
    try:
        with connect_blocking(settings, REDIS_TIMEOUT_S) as client:
            problems = [wrong_erasure_key(facts, settings) for facts in _stored_facts(client, settings)]
    except (redis.RedisError, OSError, ValueError):
        problems = []
    found = [Finding("erasure key", "error", problem) for problem in dict.fromkeys(problems) if problem]
    return found or [
        Finding("erasure key", "ok", f"set, with fingerprint {settings.erasure_keys.fingerprints[0]}")
    ]


def _stored_facts(client: Any, settings: Settings) -> Iterator[Facts]:
    """The facts of each partition that Redis holds; asked for by number, so many at once, until none is there."""
    for first in count(0, _ASKED_AT_ONCE):
        asked = client.pipeline(transaction=False)
        for partition in range(first, first + _ASKED_AT_ONCE):
            asked.hget(PartitionKeys.of(settings, partition).meta, "facts")
        found = [packed for packed in asked.execute() if packed]
        if not found:
            return
        yield from map(Facts.unpack, found)


def _offset_fetch_version(settings: Settings) -> int:
    with admin_client(settings) as admin:
        versions = {key.name: newest for key, (_, newest) in admin.api_versions().items()}
    return int(versions.get("OffsetFetch", -1))


async def _begin_as_a_producer(settings: Settings) -> str | None:
    """Initialise a transactional producer and drop it; why that failed, or None."""
    from streams.kafka.clients import new_writer

    producer = new_writer(
        settings,
        transactional_id=f"{transactional_ids_prefix(settings)}check",
        request_timeout_ms=int(TRANSACTIONS_TIMEOUT_S * 500),
    )
    try:
        await asyncio.wait_for(producer.start(), TRANSACTIONS_TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {TRANSACTIONS_TIMEOUT_S:g} s"
    except Exception as error:
        return one_line(error)
    finally:
        with contextlib.suppress(Exception):  # why it could not start is known already
            await asyncio.wait_for(producer.stop(), TRANSACTIONS_TIMEOUT_S)
    return None
