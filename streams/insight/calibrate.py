"""`ebbtide calibrate`: from records to a model file, with a report on how good it is."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from enrichment.calibration.as_lived.live_through import live_through, window_of
from enrichment.calibration.calibrate import CalibrationError, Days, calibrate
from enrichment.calibration.data_quality import RecordCounts, data_quality
from enrichment.calibration.engagement_weights import EngagementWeights, fit_engagement_weights
from enrichment.calibration.rules.silence import LEFT_TO_THE_HISTORY, SilenceWanted
from enrichment.calibration.snapshot import Snapshot, take_snapshots
from enrichment.customer.validation import Horizons
from enrichment.days import day_of, format_day
from enrichment.model import Model, TimeUnit
from enrichment.tiers.capacity import CapacityError
from schemas.documents import Document
from schemas.events import Purchase
from schemas.rejection import Rejection
from schemas.topics import INPUT_TOPICS
from streams.console.refusals import Refusals
from streams.errors import EbbtideError, UsageError
from streams.insight.customer_sample import CustomerSample
from streams.replay.documents import replayed_documents
from streams.replay.log import Line, Refused, ReplayLog, ordered_log, refusals_of

HOLDOUT_DAYS: Final = 90
LIVED_CUSTOMERS: Final = 5_000
"""So many customers are replayed at most, to tell what the stream does: more would take long, and tell little more."""
MOST_CUSTOMERS: Final = 50_000
"""So many customers a model is fitted to, unless somebody asks for another number: percentiles and parameters of more
would hardly differ, and their snapshots would fill the memory."""
WEEKLY_CUSTOMERS: Final = 3_000
"""So many customers are looked at week by week at most, to fit hysteresis."""
NOBODY: Final = Snapshot(0, (), (), 0, 0)
HEADER: Final = """\
# A value model fitted by `ebbtide calibrate` to the records up to {until}; docs/scores.md explains every number.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked `calibrate` for; `name` and `version` are the new model's.

    One that is not judged is fitted in half the time: the report has no `validation`, nor anything else that holds a
    fit against what came later.
    """

    holdout_days: int | None = None
    time_unit: TimeUnit = "week"
    capacities: Mapping[str, str] | None = None
    fits_engagement_weights: bool = False
    name: str = "calibrated"
    version: str | None = None
    silence: SilenceWanted = LEFT_TO_THE_HISTORY
    is_judged: bool = True
    most_customers: int = MOST_CUSTOMERS
    """Drawn where there are more; 0 for everyone."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; no report where its path is None."""

    model: Path
    report: Path | None = None
    html: Path | None = None


def run_calibration(
    lines: Iterable[Line],
    base: Model,
    until_us: int | None,
    wanted: Wanted,
    outputs: Outputs,
    horizons: Horizons | None = None,
    refusals: Refusals | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Document:
    """Fit a model to the records of files or topics and write it, after its reports; gives the report.

    Records that were refused are counted in `refusals`; `tell` is told in a few words how far it has come.

    Raises:
        EbbtideError: There is no order, or nothing can be fitted; the report then says why too. Or more records were
            refused than `refusals` allows: there are reports then, and no model.
        UsageError: The holdout leaves nothing to fit to.
    """
    refusals = refusals or Refusals()
    sample = CustomerSample(wanted.most_customers)
    sample.take(lines)
    log = ordered_log(sample.lines, base, until_us)
    tell(f"{len(log.records):,} records read{_of_whom(sample)}")
    try:
        document, report = fit(log, base, until_us, wanted, horizons, refusals, sample.share, tell)
    except CapacityError as error:
        raise EbbtideError(str(error)) from error
    except CalibrationError as error:
        # Without examples: a report does not depend on the order of lines.
        cause = _with_cause(error, refusals, with_examples=False)
        warnings = [f"no model was fitted: {cause}"]
        _write_reports({"refused": cause, **error.report, "warnings": warnings}, outputs)
        raise EbbtideError(f"no model was fitted: {_with_cause(error, refusals)}") from error
    _write_reports(report, outputs)
    refusals.check()
    outputs.model.parent.mkdir(parents=True, exist_ok=True)
    outputs.model.write_text(model_text(document), encoding="utf-8")
    return report


def fit(
    log: ReplayLog,
    base: Model,
    until_us: int | None,
    wanted: Wanted,
    horizons: Horizons | None,
    refusals: Refusals,
    drawn_share: float = 1.0,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[Document, Document]:
    """The model document and the report; records that were refused are counted in `refusals`.

    `drawn_share` is the share of all customers that the log's are.

    1. Look at the history at the ends of some days, and of weeks.
    2. Fit engagement weights beside the model's.
    3. Fit all else.
    4. Replay the records with the model fitted to the cut: what the stream itself does after it.

    Raises:
        CalibrationError: Nothing can be fitted; its report says what was found in the records.
    """
    outcomes = Counter[tuple[str, str]](log.outcomes)
    dead_letters = list(log.dead_letters)
    try:
        days = _days(log, until_us, wanted)
    except (CalibrationError, UsageError) as error:
        refusals_of(dead_letters, {**outcomes, ("all", "accepted"): len(log.records)}, refusals)
        if isinstance(error, UsageError):
            raise UsageError(_with_cause(error, refusals)) from None
        told = {"data_quality": data_quality(NOBODY, base, _counts(outcomes, refusals))}
        raise CalibrationError(str(error), told) from None
    events = (record.event for record in log.records)

    def refuse(at: int, why: Rejection) -> None:
        dead_letters.append(Refused(log.records[at].line, why))

    looked = {  # 1
        taken.day: taken for taken in take_snapshots(events, days.all, base, horizons, outcomes, refuse)
    }
    refusals_of(dead_letters, outcomes, refusals)
    tell(f"{len(looked[days.end]):,} customers looked at on {len(looked)} days; fitting")
    weeks = _weekly(log, looked[days.end], days, base, horizons)
    quality = data_quality(looked[days.end], base, _counts(outcomes, refusals))
    weights = fit_engagement_weights(looked[days.cut], looked[days.end], base)  # 2
    used = weights.weights if wanted.fits_engagement_weights else None
    try:
        found = calibrate(  # 3
            base,
            looked,
            days,
            wanted.time_unit,
            wanted.capacities or {},
            used,
            wanted.silence,
            weeks,
            is_judged=wanted.is_judged,
            drawn_share=drawn_share,
        )
    except CalibrationError as error:
        raise CalibrationError(str(error), {**error.report, "data_quality": quality}) from None
    version = wanted.version or format_day(days.end)
    warnings = [*found.report["warnings"], *(weights.warnings if used is not None else [])]
    if used is not None:
        warnings.append(
            "fitted engagement weights are in the model; what is held against later purchases has the weights before"
        )
    lived = None
    if not wanted.is_judged:
        pass
    elif found.at_cut is None:
        warnings.append("nothing is told as lived: no model could be fitted to the records up to the cut")
    else:
        tell("fitted; replaying with the model of the cut")
        lived = _as_lived(log, found.at_cut, looked[days.cut], looked[days.end], until_us, horizons)  # 4
    report = {
        "model": {"name": wanted.name, "version": version, "base_currency": base.base_currency},
        **found.report,
        "lived": lived,
        "engagement_weights": _weights_report(weights, wanted),
        "data_quality": quality,
        "warnings": warnings,
    }
    return {**found.document, "name": wanted.name, "version": version}, report


def _weekly(
    log: ReplayLog, end: Snapshot, days: Days, base: Model, horizons: Horizons | None
) -> dict[int, Snapshot]:
    """Snapshots of some customers at the ends of weeks."""
    chosen = set(_drawn(end.customer_ids, WEEKLY_CUSTOMERS))
    events = (record.event for record in log.records if record.customer_id in chosen)
    return {taken.day: taken for taken in take_snapshots(events, days.weeks, base, horizons)}


def _as_lived(
    log: ReplayLog,
    at_cut: Model,
    cut: Snapshot,
    end: Snapshot,
    until_us: int | None,
    horizons: Horizons | None,
) -> Document:
    """What the stream would have done with the model of the cut; the log, and what it counts, stay as they are.

    Of very many customers, a part is enough to tell: what becomes of one depends on no other.
    """
    records, everyone = log.records, len(end)
    if everyone > LIVED_CUSTOMERS:
        chosen = set(_drawn(end.customer_ids, LIVED_CUSTOMERS))
        records = [record for record in records if record.customer_id in chosen]
        cut, end = cut.only(chosen), end.only(chosen)
    again = ReplayLog(records=records)
    lived = replayed_documents(again, at_cut, log.end_us(until_us), horizons)
    window_days = window_of(at_cut, end.day - cut.day)
    found = live_through(lived.changes, at_cut, cut, end, window_days, lived.triggers)
    return {"customers": len(end), "customers_in_all": everyone, **found}


def _drawn(customer_ids: Sequence[str], many: int) -> list[str]:
    """So many customers, by a hash of their ids: the same ones each time, whatever the ids look like."""
    return sorted(customer_ids, key=lambda own: (zlib.crc32(own.encode()), own))[:many]


def _days(log: ReplayLog, until_us: int | None, wanted: Wanted) -> Days:
    first_us = next(
        (
            record.occurred_at_us
            for record in log.records
            if isinstance(record.event, Purchase) and record.event.kind == "order"
        ),
        None,
    )
    if first_us is None:
        raise CalibrationError(f"there is no order to fit anything to{_later(log)}", {})
    first_day = day_of(first_us)
    end_day = day_of(log.records[-1].occurred_at_us if until_us is None else until_us)
    longest = end_day - first_day - 1
    if longest < 1:
        raise CalibrationError(
            "all orders are of one day or two: nothing came after them to judge a fit by", {}
        )
    holdout_days = wanted.holdout_days or max(min(HOLDOUT_DAYS, (end_day - first_day) // 3), 1)
    if holdout_days > longest:
        raise UsageError(
            f"--holdout-days {holdout_days} leaves nothing to fit: the history has {end_day - first_day} days, "
            f"from {format_day(first_day)} to {format_day(end_day)}"
        )
    return Days.of(first_day, end_day, holdout_days)


def _of_whom(sample: CustomerSample) -> str:
    """Of which customers the records are, as the end of a sentence; nothing to say of everyone."""
    if not sample.is_partial:
        return ""
    return f", of a {sample.share:.1%} sample of about {sample.customers_in_all:,} customers"


def _with_cause(error: Exception, refusals: Refusals, *, with_examples: bool = True) -> str:
    """An error's message and, where records were refused, that they are missing."""
    if not refusals.refused:
        return str(error)
    return f"{error}; {refusals.in_one_line(with_examples=with_examples)}"


def _later(log: ReplayLog) -> str:
    """Whether the records are later than the end that was asked for, as the end of a sentence."""
    later = sum(count for (_, outcome), count in log.outcomes.items() if outcome == "after_until")
    return f"; {later:,} records are later than --until" if later else ""


def _weights_report(weights: EngagementWeights, wanted: Wanted) -> Document:
    used = "fitted" if wanted.fits_engagement_weights and weights.weights is not None else "default"
    return {"used": used, "asked_for": wanted.fits_engagement_weights, **weights.report}


def _counts(outcomes: Counter[tuple[str, str]], refusals: Refusals) -> RecordCounts:
    """What became of the records, by topic, and why some were refused."""
    by_topic: dict[str, dict[str, int]] = {topic: {} for topic in INPUT_TOPICS}
    for (topic, outcome), count in sorted(outcomes.items()):
        by_topic[topic][outcome] = count
    return RecordCounts(by_topic, refusals.by_reason)


def _write_reports(report: Document, outputs: Outputs) -> None:
    # Raises for NaN and infinity, which orjson would turn to null and nobody would notice.
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
    if outputs.report is not None:
        outputs.report.parent.mkdir(parents=True, exist_ok=True)
        outputs.report.write_text(text + "\n", encoding="utf-8")
    if outputs.html is not None:
        from streams.reports.page import write_html

        write_html(json.loads(text), outputs.html)


class _Dumper(yaml.SafeDumper):
    """Lists in one line, as far as they fit."""

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


def model_text(document: Document) -> str:
    """A model document as a file for people: lists and small mappings in one line each; what it was fitted to first."""
    body = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000
    )
    fitted = document.get("calibration")
    return (HEADER.format(until=fitted["until"]) if fitted else "") + body


def calibration_text(report: Document) -> str:
    """The report in a few lines for people, the warnings of all its sections last."""
    from streams.reports.page import warnings_of

    lifetime, history = report["lifetime_value"], report["history"]
    chosen = lifetime["model_file"]["models"][lifetime["chosen"]]
    in_all = history["customers_in_all"]
    drawn = f" of about {in_all:,}" if in_all > history["customers"] else ""
    lines = [
        f"{history['customers']:,}{drawn} customers up to {history['until']}; judged by the "
        f"{history['holdout_days']} days after {history['cut']}",
        f"lifetime value: {lifetime['chosen']} ({chosen['status']}), times in {lifetime['time_unit']}s; "
        f"{lifetime['reason']}",
    ]
    silence = report["silence"]
    if silence["action"] == "fitted":
        lines.append(
            f"at_risk: a risk of {silence['at_risk_silence_risk']:.0%} or more to buy nothing for "
            f"{silence['window_days']} days; lapsed: {silence['lapsed_silence_risk']:.0%} or more. Of the "
            f"{silence['customers']:,} who bought within {silence['window_days']} days, "
            f"{silence['at_risk_share']:.0%} are one or the other"
        )
    lines += _hysteresis_lines(report["hysteresis"])
    validation = report["validation"]
    if validation is not None:
        purchases = validation["purchases"]
        lines.append(
            f"holdout: {purchases['expected']:,.0f} purchases expected, {purchases['actual']:,} made by "
            f"{validation['customers']:,} customers"
        )
    season = lifetime.get("season")
    if season is not None and season.get("total_bias") is not None:
        lines.append(
            f"season: the days from {season['from']} to {season['until']} brought {season['level']:.2f} times what was "
            f"expected of them; with that level the holdout's total is {season['total_bias']:+.0%} off, without it "
            f"{lifetime['holdout'][lifetime['chosen']]['total_bias']:+.0%}"
        )
    if report["lived"] is not None:
        lines += _lived_lines(report["lived"])
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings_of(report))])


def _hysteresis_lines(hysteresis: Document) -> list[str]:
    if hysteresis["action"] != "fitted":
        return []
    parts = [
        f"a {name} moves when a threshold is passed by {own['score_margin']:g} points, and lasts {own['dwell_days']} "
        f"days at least (there and back {own['there_and_back_per_customer_year']:.2f} times per customer and year, "
        f"without {own['without']:.2f})"
        for name, own in hysteresis.items()
        if isinstance(own, dict)
    ]
    return [f"hysteresis: {'; '.join(parts)}"]


def _lived_lines(lived: Document) -> list[str]:
    told = []
    if lived["warned"] is not None:
        warned = lived["warned"]["at_risk_or_lapsed"]
        if warned["recall"] is not None:
            told.append(
                f"at_risk or lapsed named {warned['recall']:.0%} of those who then stayed away "
                f"{lived['window_days']} days (silent longest, as many: {warned['recency']['recall']:.0%}; "
                f"everyone silent for 45 days: {lived['panel']['recall_of_recency_45']:.0%})"
            )
    top = lived["capture"]["strategic"]
    if top["customers"] and top["revenue_share"] is not None:
        told.append(
            f"strategic captured {top['revenue_share']:.0%} of revenue "
            f"(last year's revenue: {top['by_last_years_revenue']['revenue_share']:.0%})"
        )
    due = lived["reactivations"]
    if due["due"]:
        told.append(
            f"{due['due']:,} re-activations fell due, and after {due['returned_share']:.0%} of them the customer "
            f"bought within {due['within_days']} days though nothing was sent"
        )
    return [f"as lived: {'; '.join(told)}"] if told else []
