"""Commands of operation: topics, checks, dead letters, erasure, and schema documents."""

from __future__ import annotations

import asyncio
import getpass
import json
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streams.cli.options import PROGRAM, Name, Options, Place, Reason, Time, for_all, until_option
from streams.console.terminal import say

if TYPE_CHECKING:
    from schemas.topics import InputTopic
    from streams.kafka.topics import TopicReport
    from streams.operations.dead_letters import Chosen, DeadLetter
    from streams.settings import Settings

INPUTS: Final = ("purchases", "engagements", "consents")


@click.group()
@for_all
def topics() -> None:
    """Create the topics, or check them and their settings."""


@topics.command()
@click.option(
    "--partitions", metavar="N", type=click.IntRange(1), help="Of each topic; 8, unless some topics exist."
)
@click.option(
    "--replication-factor",
    metavar="N",
    type=click.IntRange(1, 32767),
    help="The broker's default if left out.",
)
@for_all
@click.pass_obj
def create(options: Options, partitions: int | None, replication_factor: int | None) -> int:
    """Create the topics that are missing, and check all."""
    settings = options.settings()
    from streams.kafka.topics import check_topics, create_topics

    created = create_topics(settings, partitions, replication_factor)
    for name in created:
        say(f"created {name}")
    report = check_topics(settings)
    say(f"{len(created)} created, {len(report.topics) - len(created)} were there")
    return _tell(report)


@topics.command()
@for_all
@click.pass_obj
def describe(options: Options) -> int:
    """Print the topics with their settings; exit code 1 if the worker could not run on them."""
    settings = options.settings()
    from streams.console.tables import table_lines
    from streams.kafka.topics import CLEANUP_POLICY, MAX_MESSAGE_BYTES, TIMESTAMP_TYPE, check_topics

    report = check_topics(settings)
    names = (CLEANUP_POLICY, TIMESTAMP_TYPE, MAX_MESSAGE_BYTES)
    rows: list[tuple[str, ...]] = [("topic", "partitions", "replicas", *names)]
    for topic in report.topics:
        reported = (topic.settings.get(name, "-") for name in names)
        rows.append((topic.name, str(topic.partitions), str(topic.replicas), *reported))
    for line in table_lines(rows, numbers=False):
        say(line)
    return _tell(report)


@click.group()
@for_all
def dlq() -> None:
    """List the dead letters, or send them to their inputs again."""


def _choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose dead letters."""
    topic = click.option(
        "--topic",
        "topics",
        type=click.Choice(INPUTS),
        multiple=True,
        help="Input they came from; may repeat.",
    )
    reason = click.option(
        "--reason",
        "reasons",
        metavar="REASON",
        type=Reason(),
        multiple=True,
        help="Such as Malformed; may repeat.",
    )
    since = click.option("--since", metavar="T", type=Time(), help="Refused at T or later.")
    return topic(reason(since(until_option(command))))


def _chosen(places: tuple[tuple[int, int], ...], options: dict[str, Any]) -> Chosen:
    from streams.operations.dead_letters import Chosen

    return Chosen(options["topics"], options["reasons"], options["since"], options["until"], places)


@dlq.command("list")
@_choosing
@click.option("--json", "as_json", is_flag=True, help="As JSON Lines, with key and value in Base64.")
@for_all
@click.pass_obj
def list_letters(options: Options, /, as_json: bool, **chosen: Any) -> None:
    """Print which records were refused, where they came from, and why."""
    asyncio.run(_list(options.settings(), _chosen((), chosen), as_json))


async def _list(settings: Settings, chosen: Chosen, as_json: bool) -> None:
    from streams.operations.dead_letters import dead_letters

    reasons: Counter[str] = Counter()
    async for letter in dead_letters(settings, chosen):
        reasons[letter.reason] += 1
        say(json.dumps(letter.document()) if as_json else _line(letter))
    if not as_json:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        say(f"{_number_of('dead letter', reasons.total())}{counts and f': {counts}'}")


def _line(letter: DeadLetter) -> str:
    from enrichment.days import format_time
    from streams.operations.dead_letters import place_text

    origin = f"{letter.topic} {letter.partition}:{letter.offset}"
    first = f"{place_text(letter.place):<10}  {format_time(letter.at_us):<24}  {origin:<24}"
    return f"{first}  {letter.reason:<15}  {letter.message}"


@dlq.command()
@click.argument("places", metavar="[PLACE]...", type=Place(), nargs=-1)
@_choosing
@click.option("--dry-run", is_flag=True, help="Only tell what would be sent.")
@for_all
@click.pass_obj
def redrive(options: Options, /, places: tuple[tuple[int, int], ...], dry_run: bool, **chosen: Any) -> int:
    """Send refused records to the inputs they came from, once what was wrong has been put right.

    Those at each PLACE (a dead letter's partition and offset, such as 3:17, as `dlq list` prints it), or all that fit
    the options.
    """
    settings = options.settings()
    from streams.operations.dead_letters import place_text
    from streams.operations.dead_letters import redrive as send_again

    redriven = asyncio.run(send_again(settings, _chosen(places, chosen), is_dry=dry_run))
    for letter, reason in redriven.left:
        say(f"{PROGRAM}: warning: {place_text(letter.place)} was not sent: {reason}", err=True)
    counts = ", ".join(f"{count:,} to {topic}" for topic, count in redriven.sent.most_common())
    verb = "would be sent" if dry_run else "sent"
    say(f"{_number_of('record', redriven.sent.total())} {verb}{counts and f': {counts}'}")
    return int(bool(redriven.left))


@click.command()
@click.argument("customer_id")
@click.option("--at", metavar="T", type=Time(), help="When they asked for it; now if left out.")
@click.option(
    "--partition",
    metavar="N",
    type=click.IntRange(0),
    help="Of `consents`; by Redis, or by the key, if left out.",
)
@for_all
@click.pass_obj
def erase(options: Options, customer_id: str, at: int | None, partition: int | None) -> None:
    """Have the worker forget a customer: sends an erasure to `consents`."""
    settings = options.settings()
    from enrichment.customer.validation import FUTURE_TOLERANCE_US
    from streams.operations.erasure import erase as send_erasure
    from streams.worker.clock_check import wall_clock_us

    now_us = wall_clock_us()
    if at is None and settings.clock == "event":
        raise click.UsageError(
            "with EBBTIDE_CLOCK=event, --at is needed: that clock would go on to a date of today"
        )
    if at is not None and at > now_us + FUTURE_TOLERANCE_US:
        raise click.UsageError("--at: a record dated more than 24 hours ahead would be refused")
    done = asyncio.run(send_erasure(settings, customer_id, now_us if at is None else at, partition))
    if not done.is_held and partition is None:
        place = "sent where Kafka's default partitioner puts the key"
        say(f"{PROGRAM}: warning: Redis does not hold {customer_id!r}: {place}", err=True)
    for topic, number, offset in done.sent:
        say(f"sent to {topic} {number}:{offset}; the worker erases what it holds when it comes to it")
    say("topics keep earlier records until their retention ends (docs/operating.md, Consent and erasure)")


@click.command()
@click.option("--topic", type=click.Choice(INPUTS), required=True, help="The input that is stuck.")
@click.option("--partition", metavar="P", type=click.IntRange(0), required=True, help="Its partition.")
@click.option("--offset", metavar="N", type=click.IntRange(0), required=True, help="Where it is stuck.")
@click.option("--by", metavar="NAME", type=Name(), help="Who asks; the account on this machine if left out.")
@click.option("--why", metavar="TEXT", default="", help="Why, for whoever reads the dead letter.")
@for_all
@click.pass_obj
def skip(options: Options, topic: InputTopic, partition: int, offset: int, by: str | None, why: str) -> None:
    """Have the worker pass over what a partition is stuck at, as `doctor` and /readyz tell it.

    The partition's owner does so at its next attempt, and only where it is stuck at this offset. What is passed over
    becomes a dead letter that says who asked for it, and why.
    """
    settings = options.settings()
    from streams.operations.skip import ask_to_skip

    asker = by or f"{getpass.getuser()}@{socket.gethostname()}"
    stuck = asyncio.run(ask_to_skip(settings, topic, partition, offset, asker, why))
    say(f"the owner of partition {partition} is asked to skip {stuck.place}")


@click.command()
@for_all
@click.pass_obj
def doctor(options: Options) -> int:
    """Check settings, model, Kafka, topics and Redis; exit code 1 if the worker could not run."""
    settings = options.settings()
    from streams.operations.doctor import run_checks

    findings = run_checks(settings)
    for finding in findings:
        say(f"{finding.status:<8} {finding.check:<13} {finding.message}")
    return int(any(finding.status == "error" for finding in findings))


@click.group()
@for_all
def schemas() -> None:
    """Schema documents: JSON Schema and AsyncAPI."""


@schemas.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@for_all
def export(directory: Path) -> None:
    """Write the JSON Schema files and the AsyncAPI document under DIR."""
    from schemas.export import export as export_documents

    for path in export_documents(directory):
        say(str(path))


def _number_of(thing: str, number: int) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _tell(report: TopicReport) -> int:
    for line in report.warnings:
        say(f"{PROGRAM}: warning: {line}", err=True)
    for line in report.errors:
        say(f"{PROGRAM}: error: {line}", err=True)
    return int(bool(report.errors))
