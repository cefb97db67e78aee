"""Every customer's profile from Redis, as JSON Lines or CSV, sorted by customer id."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import orjson

from enrichment.customer.customer import Customer
from enrichment.days import format_time, midnight_us
from enrichment.enricher import Enricher
from enrichment.model import Model
from schemas.documents import ProfileDocument
from streams.console.progress import Report, reporting
from streams.console.refusals import Refusals
from streams.console.terminal import visible_json
from streams.errors import EbbtideError
from streams.insight.profile_rows import csv_header, csv_line
from streams.settings import Settings
from streams.state.held_state import HeldPartition, held_partitions

CSV: Final = ".csv"
PAGE_CUSTOMERS: Final = 2_000
"""Customers in memory at a time; of all others only the ids are."""


def export_profiles(
    settings: Settings, out: Path, until_us: int | None, refusals: Refusals | None = None
) -> int:
    """Write the profiles of all customers that Redis holds; gives their number.

    A profile is as of the later of the customer's latest record and their partition's last midnight, or as of
    `until_us` for everyone. A file whose name ends in .csv has a row each, any other one JSON Lines. Standings are the
    last ones decided. The file appears when it is whole. While the worker runs, each customer is as of the moment at
    which they were read. Customers whose states cannot be read are left out, and counted in `refusals`.

    Raises:
        EbbtideError: Redis does not answer or holds nothing of the group, or records after `until_us`; or more states
            cannot be read than `refusals` allows.
    """
    model = settings.load_model()
    refusals = refusals or Refusals("profiles")
    with _whole_file(out) as lines, reporting("profiles", "customers") as report:
        if out.suffix == CSV:
            lines.write(csv_header() + b"\n")
        dump = csv_line if out.suffix == CSV else _visible_line if _is_no_file(out) else orjson.dumps
        written = asyncio.run(_export(settings, model, until_us, lines, report, refusals, dump))
        refusals.check()
    return written


def _is_no_file(path: Path) -> bool:
    """Whether it is a terminal or a pipe, such as /dev/stdout, wherever that leads: there is no place to take."""
    return path.absolute().parts[1:2] in (("dev",), ("proc",)) or (path.exists() and not path.is_file())


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` at the end of the block, unless it raises."""
    if _is_no_file(path):
        with path.open("wb") as lines:
            yield lines
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as lines:
            yield lines
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


async def _export(
    settings: Settings,
    model: Model,
    until_us: int | None,
    lines: IO[bytes],
    report: Report,
    refusals: Refusals,
    dump: Callable[[ProfileDocument], bytes],
) -> int:
    enricher = Enricher(model, settings.change_namespace, settings.horizons)
    written = 0
    async with held_partitions(settings, model) as partitions:
        _warn_of_another_model(partitions, model)
        ids = [
            (customer_id, at)
            for at, held in enumerate(partitions)
            for customer_id in await held.store.all_ids()
        ]
        ids.sort()
        for start in range(0, len(ids), PAGE_CUSTOMERS):
            page = await _page(ids[start : start + PAGE_CUSTOMERS], partitions, refusals)
            for document in _profiles(page, until_us, enricher):
                lines.write(dump(document) + b"\n")
            written += len(page)
            report(min(start + PAGE_CUSTOMERS, len(ids)), len(ids))
    return written


def _visible_line(document: ProfileDocument) -> bytes:
    return visible_json(orjson.dumps(document).decode()).encode()


async def _page(
    ids: Sequence[tuple[str, int]], partitions: Sequence[HeldPartition], refusals: Refusals
) -> list[tuple[Customer, int]]:
    """The customers of these (id, index of partition) in the same order, with their partition's last midnight."""
    found: dict[tuple[str, int], Customer] = {}
    for at, held in enumerate(partitions):
        wanted = [customer_id for customer_id, of in ids if of == at]
        for customer_id, customer in (await held.known(wanted, refusals)).items():
            found[customer_id, at] = customer
    return [
        (found[key], midnight_us(partitions[key[1]].checkpoint.midnight_day)) for key in ids if key in found
    ]


def _profiles(
    page: Sequence[tuple[Customer, int]], until_us: int | None, enricher: Enricher
) -> list[ProfileDocument]:
    as_of_us = [customer.as_of_us(last_midnight_us) for customer, last_midnight_us in page]
    if until_us is not None:
        for customer, _ in page:
            latest_us = customer.state.latest_us
            if latest_us is not None and latest_us > until_us:
                raise EbbtideError(
                    f"--until {format_time(until_us)} is before what Redis holds: customer {customer.id!r} has "
                    f"a record of {format_time(latest_us)}; replay can go back in time"
                )
        as_of_us = [until_us] * len(page)
    return enricher.profiles([customer for customer, _ in page], as_of_us)


def _warn_of_another_model(partitions: Sequence[HeldPartition], model: Model) -> None:
    if any(held.model_fingerprint != model.fingerprint for held in partitions):
        print(
            "ebbtide: warning: the standings were decided by another model than the settings name",
            file=sys.stderr,
        )
