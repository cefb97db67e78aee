"""The command line: ``ebbtide``, and ``python -m streams``.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted. An error is one line on stderr, with its stack
trace only with ``--debug``. Every command imports what it needs when it runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from streams.cli import conversion as cli_conversion
from streams.cli import operations as cli_operations
from streams.cli.options import (
    PROGRAM,
    Name,
    Options,
    Share,
    Tier,
    Time,
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
from streams.errors import EbbtideError, UsageError, one_line
from streams.extras import require

if TYPE_CHECKING:
    from enrichment.model import Model
    from schemas.topics import InputTopic
    from streams.replay.log import Line
    from streams.replay.reading import Tables
    from streams.settings import Settings

INTERRUPTED: Final = 130
TELLS_AFTER_S = 5.0
"""A command that takes longer says how far it has come."""
MAX_HOLDOUT_DAYS: Final = 800
"""Purchases are held by day for so long (docs/contract.md, section 8); what came earlier could not be counted."""
MAX_WINDOW_DAYS: Final = 3650
"""As model files allow."""
_NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_FILES: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_capacities = click.option(
    "--tier",
    "tiers",
    metavar="TIER=N|N%",
    type=Tier(),
    multiple=True,
    help="Room of a tier: customers, or a share of those with an order; may repeat. Else the model's capacities.",
)


def _once_each(tiers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Capacities by tier; wrong use where one is given twice."""
    twice = [name for name in dict(tiers) if sum(name == other for other, _ in tiers) > 1]
    if twice:
        raise click.UsageError(f"--tier {twice[0]} is given more than once")
    return dict(tiers)


def _different_files(outputs: dict[str, Path | None]) -> None:
    """Wrong use where two options name the same file, which would then hold only what is written last."""
    option_of: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is not None:
            other = option_of.setdefault(path.resolve(), option)
            if other != option:
                raise click.UsageError(f"{other} and {option} name the same file, {path}")


def _writable_folder() -> Path:
    """The current one, or that of temporary files."""
    here = Path.cwd()
    return here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())


def _model_of(settings: Settings, given: Path | None) -> Model:
    """The model of the option `--model`, or else of the settings."""
    if given is None:
        return settings.load_model()
    return settings.model_copy(update={"model": given}).load_model("--model")


@click.group()
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
@for_all
def cli() -> None:
    """Notices when customers slip: from purchases, engagement and consents to segment-change events."""


@cli.command()
@click.option(
    "--model", metavar="FILE", type=_FILES, help="Model file; else one is fitted to the first months."
)
@click.option(
    "--html",
    metavar="FILE",
    type=_NEW_FILE,
    help="What came of it, as a page to look at; ebbtide-demo.html if left out.",
)
@fail_over_option
@for_all
@click.pass_obj
def demo(options: Options, model: Path | None, html: Path | None, fail_over: float | None) -> int:
    """Stream a real data set through an embedded broker and Redis, and print what came of it."""
    require(f"{PROGRAM} demo", "demo", "worker")
    if model is not None:
        _model_of(options.settings(), model)  # a file that cannot be used is told before anything starts
    from streams.console.refusals import Refusals
    from streams.demo.demo import run_demo

    refusals = Refusals(fail_over=fail_over)
    page = html or _writable_folder() / "ebbtide-demo.html"
    code = run_demo(model, page, refusals)
    conclude(refusals)
    say(f"The same as a page to look at: {page.resolve()}")
    return code


@cli.command()
@click.option(
    "--workers", metavar="N", type=click.IntRange(1), default=1, help="Processes; one per core is best."
)
@for_all
@click.pass_obj
def run(options: Options, workers: int) -> int:
    """Run the worker, until it is told to stop (Ctrl-C or SIGTERM)."""
    settings = options.settings()
    from streams.app import run_worker

    return int(run_worker(settings, workers))


@cli.command()
@log_options
@click.option("--model", metavar="FILE", type=_FILES, help="Model file, instead of the setting's.")
@until_option
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="For the results.",
)
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(1, 256),
    help="That share the work; one for each processor, if it pays, when left out. The results are the same.",
)
@click.option("--html", metavar="FILE", type=_NEW_FILE, help="What came of it, as a page to look at.")
@columns_option
@fail_over_option
@for_all
@click.pass_obj
def replay(
    options: Options,
    purchases: tuple[list[Path], ...],
    engagements: tuple[list[Path], ...],
    consents: tuple[list[Path], ...],
    model: Path | None,
    until: int | None,
    out: Path,
    processes: int | None,
    html: Path | None,
    columns: tuple[tuple[str, str], ...],
    fail_over: float | None,
) -> None:
    """Run a log from files through the same pipeline, with no broker and no Redis."""
    if not (purchases or engagements or consents):
        raise click.UsageError("at least one of --purchases, --engagements and --consents is needed")
    settings = options.settings()
    loaded = _model_of(settings, model)
    from schemas.timestamps import parse_timestamp
    from streams.console.progress import reporting
    from streams.console.refusals import Refusals
    from streams.garbage import expecting_long_lives
    from streams.replay.fared import Fared
    from streams.replay.files import run_replay

    refusals, fared = Refusals(fail_over=fail_over), list[Fared]()
    with expecting_long_lives(), reporting("replay") as report:
        summary: Any = run_replay(
            purchases=all_of(purchases),
            engagements=all_of(engagements),
            consents=all_of(consents),
            out=out,
            model=loaded,
            until_us=until,
            horizons=settings.horizons,
            report=report,
            processes=processes,
            limit_bytes=settings.decompressed_max_bytes,
            refusals=refusals,
            fared=fared,
            tables=tables_of(columns, loaded),
            core=settings.core,
        )
    if html is not None:
        from streams.reports.overview_page import write_overview_of_files

        write_overview_of_files(html, out, fared, loaded, parse_timestamp(summary["as_of"]))
    events = sum(sum(outcomes.values()) for outcomes in summary["events"].values())
    page = "" if html is None else f", and the page to look at is {html}"
    say(f"{events:,} events of {summary['customers']:,} customers; the results are in {out}{page}")
    conclude(refusals)


@cli.command()
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON Lines; or CSV, where the name ends in .csv.",
)
@until_option
@fail_over_option
@for_all
@click.pass_obj
def profiles(options: Options, out: Path, until: int | None, fail_over: float | None) -> None:
    """Write every customer's current profile, from Redis, as JSON Lines or CSV."""
    settings = options.settings()
    from streams.console.refusals import Refusals
    from streams.insight.profiles import export_profiles

    refusals = Refusals("profiles", fail_over)
    export_profiles(settings, out, until, refusals)
    conclude(refusals)


@cli.command()
@click.argument("customer_id")
@for_all
@click.pass_obj
def export(options: Options, customer_id: str) -> None:
    """Print all that is held of a customer, as JSON: what to answer someone who asks what is known of them."""
    settings = options.settings()
    from streams.insight.held_data import export_customer

    say(export_customer(settings, customer_id), lines=True)


@cli.command()
@click.option(
    "--within",
    "within_days",
    metavar="DAYS",
    type=click.IntRange(1, 365),
    default=30,
    show_default=True,
    help="That a customer has to come back in.",
)
@click.option("--since", metavar="T", type=Time(), help="Only re-activations of this day (UTC) and later.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@for_all
@click.pass_obj
def outcomes(options: Options, within_days: int, since: int | None, as_json: bool) -> None:
    """Tell what re-activations brought: those who were written to against the control group."""
    settings = options.settings()
    from enrichment.days import day_of
    from streams.insight.outcomes import told_outcomes

    since_day = None if since is None else day_of(since)
    say(told_outcomes(settings, within_days, since_day, as_json=as_json), lines=True)


@cli.command()
@click.argument("customer_id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@for_all
@click.pass_obj
def explain(options: Options, customer_id: str, as_json: bool) -> None:
    """Tell a customer's profile, each score with the metrics behind it, and how the standing came about."""
    settings = options.settings()
    from streams.insight.explain import explain as explain_customer

    say(explain_customer(settings, customer_id, as_json), lines=True)


@cli.command()
@log_options
@click.option(
    "--from-kafka",
    is_flag=True,
    help="Read the input topics instead of files, from their beginnings to their ends.",
)
@click.option(
    "--from-redis", is_flag=True, help="Read what the worker keeps of each customer instead of files."
)
@click.option(
    "--model", metavar="FILE", type=_FILES, help="Model file to begin with, instead of the setting's."
)
@until_option
@click.option(
    "--holdout-days",
    metavar="D",
    type=click.IntRange(1, MAX_HOLDOUT_DAYS),
    help="Days before --until that fits are judged by; 90, or a third of the history if that is less.",
)
@click.option(
    "--time-unit",
    type=click.Choice(["day", "week", "month"]),
    default="week",
    show_default=True,
    help="Of the lifetime-value parameters.",
)
@_capacities
@click.option(
    "--window-days",
    metavar="W",
    type=click.IntRange(1, MAX_WINDOW_DAYS),
    help="Warn of customers who will buy nothing for W days; by the gaps between purchases if left out.",
)
@click.option(
    "--at-risk-share",
    metavar="SHARE",
    type=Share(),
    help="So many of those who bought within W days are to be at_risk or lapsed, such as 15%.",
)
@click.option(
    "--lapsed-share",
    metavar="SHARE",
    type=Share(),
    help="So many of them are to be lapsed; at most --at-risk-share.",
)
@click.option(
    "--contact-cost",
    metavar="AMOUNT",
    type=click.FloatRange(min=0, min_open=True),
    help="What a message costs, in the base currency: at_risk are those whom it pays to write to.",
)
@click.option(
    "--contact-effect",
    metavar="SHARE",
    type=Share(),
    help="Of what is at stake, so much is won back by a message, such as 5%.",
)
@click.option(
    "--customers",
    metavar="N",
    type=click.IntRange(min=0),
    default=50_000,
    show_default=True,
    help="Fit to so many customers, drawn by a hash of their ids, where there are more; 0 for everyone.",
)
@click.option(
    "--fit-engagement-weights", is_flag=True, help="Put fitted weights into the model, not only the report."
)
@click.option("--name", type=Name(), default="calibrated", show_default=True, help="The new model's name.")
@click.option(
    "--model-version",
    metavar="VERSION",
    type=Name(),
    help="The new model's version; the last day if left out.",
)
@click.option("--out", metavar="FILE", type=_NEW_FILE, required=True, help="The model file (YAML).")
@click.option("--report", metavar="FILE", type=_NEW_FILE, help="How good it is, as JSON.")
@click.option("--html", metavar="FILE", type=_NEW_FILE, help="The report as a page to look at.")
@columns_option
@fail_over_option
@for_all
@click.pass_obj
def calibrate(
    options: Options,
    purchases: tuple[list[Path], ...],
    engagements: tuple[list[Path], ...],
    consents: tuple[list[Path], ...],
    from_kafka: bool,
    from_redis: bool,
    model: Path | None,
    until: int | None,
    holdout_days: int | None,
    time_unit: Literal["day", "week", "month"],
    tiers: tuple[tuple[str, str], ...],
    window_days: int | None,
    at_risk_share: float | None,
    lapsed_share: float | None,
    contact_cost: float | None,
    contact_effect: float | None,
    customers: int,
    fit_engagement_weights: bool,
    name: str,
    model_version: str | None,
    out: Path,
    report: Path | None,
    html: Path | None,
    columns: tuple[tuple[str, str], ...],
    fail_over: float | None,
) -> None:
    """Fit a model file to a history of purchases and engagement, and say how good it is."""
    _different_files({"--out": out, "--report": report, "--html": html})
    if from_kafka and from_redis:
        raise click.UsageError("--from-kafka or --from-redis, not both")
    for flag, is_given in (("--from-kafka", from_kafka), ("--from-redis", from_redis)):
        if is_given and (purchases or engagements or consents):
            raise click.UsageError(f"{flag} takes the place of --purchases, --engagements and --consents")
    if not (from_kafka or from_redis or purchases):
        raise click.UsageError("--purchases is needed, or --from-kafka, or --from-redis")
    if lapsed_share is not None and (at_risk_share is None or lapsed_share > at_risk_share):
        raise click.UsageError("--lapsed-share needs an --at-risk-share that is not below it")
    if (contact_cost is None) != (contact_effect is None):
        raise click.UsageError("--contact-cost and --contact-effect go together")
    if contact_cost is not None and at_risk_share is not None:
        raise click.UsageError("--at-risk-share or --contact-cost, not both")
    settings = options.settings()
    loaded = _model_of(settings, model)
    from enrichment.calibration.rules.silence import Contact, SilenceWanted
    from streams.console.refusals import Refusals
    from streams.insight.calibrate import Outputs, Wanted, calibration_text, run_calibration

    refusals = Refusals(fail_over=fail_over)
    files: dict[InputTopic, list[Path]] = {
        "purchases": all_of(purchases),
        "engagements": all_of(engagements),
        "consents": all_of(consents),
    }
    if from_kafka:
        lines = _of_topics(settings)
    elif from_redis:
        lines = _of_states(settings, loaded, fail_over)
    else:
        lines = _of_files(files, settings, tables_of(columns, loaded))
    told = run_calibration(
        lines,
        loaded,
        until,
        Wanted(
            holdout_days,
            time_unit,
            _once_each(tiers),
            fit_engagement_weights,
            name,
            model_version,
            SilenceWanted(
                window_days,
                at_risk_share,
                lapsed_share,
                None
                if contact_cost is None or contact_effect is None
                else Contact(contact_cost, contact_effect),
            ),
            most_customers=customers,
        ),
        Outputs(out, report, html),
        settings.horizons,
        refusals,
        _teller(),
    )
    say(calibration_text(told), lines=True)
    say(f"the model is in {out}")
    conclude(refusals)


def _teller() -> Callable[[str], None]:
    """Tells on stderr how far a command has come, once it has taken a while: what ends soon has one line or none."""
    started_s = time.monotonic()

    def tell(text: str) -> None:
        if time.monotonic() - started_s >= TELLS_AFTER_S:
            say(text, err=True)

    return tell


def _of_topics(settings: Settings) -> Iterable[Line]:
    from streams.insight.kafka_history import lines_of_topics

    return lines_of_topics(settings)


def _of_states(settings: Settings, model: Model, fail_over: float | None) -> Iterator[Line]:
    from streams.console.refusals import Refusals
    from streams.insight.redis_history import lines_of_states

    states = Refusals("states", fail_over)
    yield from lines_of_states(settings, model, states)
    states.check()
    if states.refused:
        say(states.text(), lines=True, err=True)


def _of_files(
    files: Mapping[InputTopic, Sequence[Path]], settings: Settings, tables: Tables
) -> Iterable[Line]:
    from streams.replay.reading import read_records

    return read_records(files, settings.decompressed_max_bytes, tables)


@cli.command()
@click.option("--by", metavar="ATTRIBUTE", required=True, help="Of the profiles, such as region.")
@click.option(
    "--profiles", metavar="FILE", type=_FILES, help="As `profiles` and `replay` write it; Redis if left out."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@fail_over_option
@for_all
@click.pass_obj
def audit(options: Options, by: str, profiles: Path | None, as_json: bool, fail_over: float | None) -> None:
    """Tell whether groups of customers fare alike: shares per tier and segment, and the 80% rule."""
    settings = options.settings()
    from streams.console.refusals import Refusals
    from streams.insight.audit import run_audit

    refusals = Refusals("profiles", fail_over)
    say(run_audit(settings, by, profiles, as_json, refusals), lines=True)
    conclude(refusals)


@cli.command()
@_capacities
@click.option("--profiles", metavar="FILE", type=_FILES, help="JSON Lines of profiles, instead of Redis.")
@click.option("--model", metavar="FILE", type=_FILES, help="Model file, instead of the setting's.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with everyone who would move.")
@fail_over_option
@for_all
@click.pass_obj
def whatif(
    options: Options,
    tiers: tuple[tuple[str, str], ...],
    profiles: Path | None,
    model: Path | None,
    as_json: bool,
    fail_over: float | None,
) -> None:
    """Tell who would move if tiers had this much room, and which costs and values with them; changes nothing.

    Without --tier: how far the tiers have drifted from the capacities that the model was made for.
    """
    asked = _once_each(tiers)
    settings = options.settings()
    loaded = _model_of(settings, model)
    from streams.console.refusals import Refusals
    from streams.insight.what_if import what_if

    refusals = Refusals("profiles", fail_over)
    say(what_if(settings, loaded, asked, profiles, as_json, refusals), lines=True)
    conclude(refusals)


for _command in (
    cli_conversion.analyze,
    cli_conversion.convert,
    cli_conversion.deliver,
    cli_conversion.load,
    cli_operations.topics,
    cli_operations.dlq,
    cli_operations.erase,
    cli_operations.skip,
    cli_operations.doctor,
    cli_operations.schemas,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (without the program's name; None takes the process's own); gives the exit code."""
    options = Options(debug=False)
    for library in ("kafka", "aiokafka", "asyncio"):
        # What they would say of an unreachable broker is said in one line, by us.
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        result = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            standalone_mode=False,
            obj=options,
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(error, options.debug)


def _fail(error: Exception, debug: bool) -> int:
    if debug:
        say("".join(traceback.format_exception(error)).rstrip("\n"), lines=True, err=True)
    from streams.demo.embedded import EmbeddedServiceError

    code, message = 1, one_line(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return UsageError.exit_code
    if isinstance(error, EbbtideError):
        code = error.exit_code
    elif isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx is not None else PROGRAM
        code, message = UsageError.exit_code, f"{one_line(error.format_message())} (see `{command} --help`)"
    elif isinstance(error, click.ClickException):
        message = one_line(error.format_message())
    elif isinstance(error, EmbeddedServiceError):
        message = one_line(str(error).partition("\n")[0])  # the rest is the service's own log
    elif not isinstance(error, OSError):
        message = f"{type(error).__name__}: {message} (--debug shows where)"
    say(f"{PROGRAM}: error: {message}", err=True)
    return code
