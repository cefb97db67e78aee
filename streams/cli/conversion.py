"""Commands between Ebbtide and other tools: their events and tables in, and what they are to be told out."""

from __future__ import annotations

import asyncio
import signal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from streams.cli.options import (
    PROGRAM,
    Currency,
    InputFile,
    Options,
    all_of,
    columns_option,
    conclude,
    fail_over_option,
    for_all,
    log_options,
    tables_of,
    until_option,
)
from streams.console.terminal import say

if TYPE_CHECKING:
    from schemas.topics import InputTopic
    from streams.console.progress import Report

CHECKED: Final = 5
"""How many events `--check` shows."""


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1)
@click.option(
    "--from",
    "name",
    metavar="NAME",
    help="Whose events these are, such as segment; or a mapping of your own (.yaml).",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="For purchases.jsonl, engagements.jsonl, consents.jsonl and dead-letters.jsonl.",
)
@click.option(
    "--check", is_flag=True, help=f"Show field by field what becomes of the first {CHECKED} events."
)
@click.option(
    "--topic",
    metavar="TOPIC",
    help="Instead of files: a topic, whose events become records of the input topics as they come.",
)
@click.option("--to-end", is_flag=True, help="With --topic: stop at the present end of the topic.")
@click.option("--currency", metavar="CODE", type=Currency(), help="Of amounts whose events name none.")
@click.option("--list", "as_list", is_flag=True, help="Show the mappings that there are.")
@fail_over_option
@for_all
@click.pass_obj
def convert(
    options: Options,
    files: tuple[str, ...],
    name: str | None,
    out: Path | None,
    check: bool,
    topic: str | None,
    to_end: bool,
    currency: str | None,
    as_list: bool,
    fail_over: float | None,
) -> None:
    """Make records of other systems' events: of files (JSON, JSON Lines, CSV, Parquet, - for stdin) or a topic."""
    from streams.adapters.mapping import load_mapping, shipped

    if as_list:
        for one in shipped():
            say(f"{one:<12} {load_mapping(one).about}")
        return
    if name is not None and topic is not None:
        if files or out is not None or check:
            raise click.UsageError("--topic takes the place of files, --out and --check")
        _convert_topic(options, name, topic, currency, to_end=to_end)
        return
    if to_end:
        raise click.UsageError("--to-end needs --topic")
    if name is None or not files:
        raise click.UsageError(
            f"--from and files are needed, such as `{PROGRAM} convert --from segment events.jsonl`"
        )
    if out is None and not check:
        raise click.UsageError("--out or --check is needed")
    settings = options.settings()
    from streams.adapters.check import check_text
    from streams.adapters.conversion import check_something_came_of_it, converted, run_conversion
    from streams.adapters.converter import Converter
    from streams.console.progress import reporting
    from streams.console.refusals import Refusals
    from streams.files.opening import STANDARD_INPUT, expanded

    paths = expanded(files)
    if check and out is not None and Path(STANDARD_INPUT) in paths:
        raise click.UsageError("--check and --out together read twice, which standard input cannot be")
    converter = Converter(load_mapping(name), currency)
    limit_bytes = settings.decompressed_max_bytes
    if check:
        say(check_text(islice(converted(paths, converter, limit_bytes), CHECKED)), lines=True)
    if out is None:
        return
    refusals = Refusals("events", fail_over)
    with reporting("convert") as report:
        conversion = run_conversion(paths, converter, out, refusals, limit_bytes, report)
    say(conversion.text(), lines=True)
    conclude(refusals)
    check_something_came_of_it(conversion)
    say(f"the records are in {out}")


def _convert_topic(options: Options, name: str, topic: str, currency: str | None, *, to_end: bool) -> None:
    """Convert a topic until a signal, or up to its end; then tell what became of its events."""
    settings = options.settings()
    from streams.adapters.converter import Converter
    from streams.adapters.live import LiveConversion
    from streams.adapters.mapping import load_mapping
    from streams.console.progress import reporting
    from streams.kafka.client_logs import throttle_client_logs
    from streams.operations.doctor import check_kafka, require

    throttle_client_logs()
    for warning in require(check_kafka(settings)):
        say(f"ebbtide: warning: {warning}", err=True)

    async def run(report: Report) -> LiveConversion:
        live = LiveConversion(
            settings, topic, Converter(load_mapping(name), currency), ends=to_end, report=report
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, live.stopping.set)
        await live.run()
        return live

    with reporting("convert") as report:
        live = asyncio.run(run(report))
    say(live.conversion.text(), lines=True)


@click.command()
@log_options
@columns_option
@click.option("--rate", metavar="N", type=click.IntRange(1), help="So many records a second at most.")
@click.option(
    "--live",
    is_flag=True,
    help="Also where the worker has begun: it publishes what these records change, one by one.",
)
@fail_over_option
@for_all
@click.pass_obj
def load(
    options: Options,
    purchases: tuple[list[Path], ...],
    engagements: tuple[list[Path], ...],
    consents: tuple[list[Path], ...],
    columns: tuple[tuple[str, str], ...],
    rate: int | None,
    live: bool,
    fail_over: float | None,
) -> None:
    """Send files to the input topics, keyed by customer; run again, it goes on where it stopped.

    Do it before the worker's first start: history that is there then moves nobody, and each customer begins where the
    rules put them.
    """
    if not (purchases or engagements or consents):
        raise click.UsageError("at least one of --purchases, --engagements and --consents is needed")
    settings = options.settings()
    from streams.console.progress import reporting
    from streams.console.refusals import Refusals
    from streams.operations.load import load as load_files

    files: dict[InputTopic, list[Path]] = {
        "consents": all_of(consents),
        "purchases": all_of(purchases),
        "engagements": all_of(engagements),
    }
    refusals, tables = Refusals(fail_over=fail_over), tables_of(columns, settings.load_model())
    with reporting("load", "records") as report:
        loaded = asyncio.run(
            load_files(settings, files, tables, refusals, report, live=live, per_second=rate)
        )
    counts = ", ".join(f"{count:,} to {topic}" for topic, count in loaded.sent.most_common())
    say(f"{loaded.sent.total():,} records sent{counts and f': {counts}'}")
    if loaded.already:
        say(f"{loaded.already:,} more had been sent before")
    conclude(refusals)


@click.command()
@click.argument("orders", metavar="ORDERS", type=InputFile())
@click.option(
    "--model",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Model file, instead of the built-in one.",
)
@columns_option
@until_option
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The same as a page to look at.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="One row a customer: .csv, .parquet or .jsonl.",
)
@fail_over_option
@for_all
def analyze(
    orders: list[Path],
    model: Path | None,
    columns: tuple[tuple[str, str], ...],
    until: int | None,
    html: Path | None,
    out: Path | None,
    fail_over: float | None,
) -> None:
    """Tell how the customers of a table of orders stand: RFM, lifetime value, segments, tiers, who slipped."""
    from streams.analysis.analysis import analyze as analyze_orders
    from streams.analysis.summary import FORMATS, summary_text, write_profiles
    from streams.console.refusals import Example, Refusals
    from streams.garbage import expecting_long_lives

    if len(orders) != 1:
        raise click.UsageError(f"one table is needed, not the {len(orders)} that this pattern finds")
    if out is not None and out.suffix not in FORMATS:
        raise click.UsageError(
            f"--out {out}: the name of a file of profiles ends in one of {', '.join(FORMATS)}"
        )
    with expecting_long_lives():
        analysis = analyze_orders(orders[0], columns=dict(columns), model=model, until=until, history=False)
    taken = ", ".join(f"{of} ← {column}" for of, column in analysis.columns["orders"].items())
    say(f"{orders[0]}: {taken}", err=True)
    refusals = Refusals("rows", fail_over)
    for one in analysis.replayed.refused:
        refusals.add(one.reason, Example(str(orders[0]), one.line + 1, one.message))
    refusals.read = sum(count for (_, name), count in analysis.outcomes.items() if name != "after_until")
    refusals.accepted = analysis.outcomes.get(("orders", "accepted"), 0)
    conclude(refusals)
    say(summary_text(analysis), lines=True)
    if html is not None:
        analysis.report(html)
        say(f"The same as a page to look at: {html}")
    if out is not None:
        write_profiles(analysis, out)
        say(f"One row a customer is in {out}")


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--only", metavar="NAME", multiple=True, help="Of the outputs in the file, this one; may repeat."
)
@click.option("--check", is_flag=True, help="Say what the file asks for, and send nothing.")
@click.option("--to-end", is_flag=True, help="Stop at the present end of the topics.")
@for_all
@click.pass_obj
def deliver(options: Options, file: Path, only: tuple[str, ...], check: bool, to_end: bool) -> None:
    """Tell other tools who enters and leaves which audience, as changes come: the outputs of FILE (YAML).

    Of a customer who does not consent to an output's purpose, nothing leaves.
    """
    from streams.delivery.delivering import Delivery
    from streams.delivery.delivering import deliver as run_outputs
    from streams.delivery.outputs_file import load_outputs
    from streams.errors import UsageError

    outputs = load_outputs(file)
    if unknown := sorted(set(only) - {output.name for output in outputs}):
        raise UsageError(f"{file}: there is no output named {', '.join(unknown)}")
    chosen = [output for output in outputs if not only or output.name in only]
    if check:
        for output in chosen:
            output.secret()
            say(output.text())
        return
    settings = options.settings()
    from streams.kafka.client_logs import throttle_client_logs
    from streams.operations.doctor import check_kafka, require

    throttle_client_logs()
    for warning in require(check_kafka(settings)):
        say(f"ebbtide: warning: {warning}", err=True)

    async def run() -> list[Delivery]:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        return await run_outputs(settings, chosen, stopping, ends=to_end)

    for delivery in asyncio.run(run()):
        told = ", ".join(
            f"{delivery.counts[name]:,} {name}" for name in ("messages", "retries", "dead letters")
        )
        say(f"{delivery.output.name}: {told}")
