"""`ebbtide calibrate`: from files of records to a model file, with a report on how good it is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from enrichment.acceptance import TOPICS, Horizons, Topic
from enrichment.calibration.calibrate import Calibrated, Days, RefusedError, calibrate
from enrichment.calibration.capacity import CapacityError
from enrichment.calibration.data_quality import RecordCounts, data_quality
from enrichment.calibration.engagement_weights import EngagementWeights, fit_engagement_weights, with_weights
from enrichment.calibration.snapshot import Snapshot, take_snapshots
from enrichment.days import day_of, format_day
from enrichment.model import Model, TimeUnit
from schemas.events import Purchase
from streams.errors import EbbtideError
from streams.replay import ReplayLog, ordered_log, read_lines

Document = dict[str, Any]

HOLDOUT_DAYS: Final = 90
HEADER: Final = """\
# A value model fitted by `ebbtide calibrate` to the records up to {until}; docs/scores.md explains every number.
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked `calibrate` for; `name` and `version` are the new model's."""

    holdout_days: int | None = None
    time_unit: TimeUnit = "week"
    capacities: Mapping[str, str] | None = None
    fits_engagement_weights: bool = False
    name: str = "calibrated"
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the results go; no report where its path is None."""

    model: Path
    report: Path | None = None
    html: Path | None = None


def run_calibration(
    files: Mapping[Topic, Sequence[Path]],
    base: Model,
    until_us: int | None,
    wanted: Wanted,
    outputs: Outputs,
    horizons: Horizons | None = None,
) -> Document:
    """Fit a model to JSON Lines (`.jsonl`, `.jsonl.gz`) and write it, with its reports; gives the report.

    Raises:
        EbbtideError: There is no purchase, or nothing can be fitted; the report then says why too.
    """
    values = (
        (topic, value) for topic in TOPICS for path in files.get(topic, ()) for value in read_lines(path)
    )
    log = ordered_log(values, base, until_us)
    try:
        calibrated, report = fit(log, base, until_us, wanted, horizons)
    except CapacityError as error:
        raise EbbtideError(str(error)) from error
    except RefusedError as error:
        _write_reports(error.report, outputs)
        raise EbbtideError(f"no model was fitted: {error}") from error
    outputs.model.parent.mkdir(parents=True, exist_ok=True)
    outputs.model.write_text(model_text(calibrated.document), encoding="utf-8")
    _write_reports(report, outputs)
    return report


def fit(
    log: ReplayLog, base: Model, until_us: int | None, wanted: Wanted, horizons: Horizons | None = None
) -> tuple[Calibrated, Document]:
    """The model and the report.

    1. Look at the history at the ends of some days.
    2. Fit engagement weights beside the model's; where they are asked for, look at the history again by them.
    3. Fit all else.
    """
    days = _days(log, until_us, wanted)

    def snapshots(model: Model, outcomes: Counter[tuple[str, str]] | None = None) -> dict[int, Snapshot]:
        events = (record.event for record in log.records)
        return {taken.day: taken for taken in take_snapshots(events, days.all, model, horizons, outcomes)}

    outcomes = Counter[tuple[str, str]](log.outcomes)
    looked = snapshots(base, outcomes)  # 1
    weights = fit_engagement_weights(looked[days.cut], looked[days.end], base)  # 2
    if wanted.fits_engagement_weights and weights.weights is not None:
        base = Model.model_validate(with_weights(base.model_dump(mode="json"), weights.weights))
        looked = snapshots(base)
    calibrated = calibrate(base, looked, days, wanted.time_unit, wanted.capacities or {})  # 3
    version = wanted.version or format_day(days.end)
    document = {**calibrated.document, "name": wanted.name, "version": version}
    report = {
        "model": {"name": wanted.name, "version": version},
        **calibrated.report,
        "engagement_weights": _weights_report(weights, wanted),
        "data_quality": data_quality(
            looked[days.end], Model.model_validate(document), _counts(log, outcomes)
        ),
    }
    report["warnings"] = [
        *calibrated.report["warnings"],
        *(weights.warnings if wanted.fits_engagement_weights else []),
    ]
    return Calibrated(document, report), report


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
        refused = Counter(str(rejection.reason) for _, _, rejection in log.dead_letters)
        told = (
            f"; {sum(refused.values()):,} records were refused, most as {max(refused, key=refused.__getitem__)}"
            if refused
            else ""
        )
        raise RefusedError(f"there is no order to fit anything to{told}", {})
    first_day = day_of(first_us)
    end_day = day_of(log.records[-1].occurred_at_us if until_us is None else until_us)
    longest = end_day - first_day - 1
    if longest < 1:
        raise RefusedError("all orders are of one day or two: nothing came after them to judge a fit by", {})
    holdout_days = wanted.holdout_days or max(min(HOLDOUT_DAYS, (end_day - first_day) // 3), 1)
    if holdout_days > longest:
        raise EbbtideError(
            f"--holdout-days {holdout_days} leaves nothing to fit: the history has {end_day - first_day} days, "
            f"from {format_day(first_day)} to {format_day(end_day)}"
        )
    return Days.of(first_day, end_day, holdout_days)


def _weights_report(weights: EngagementWeights, wanted: Wanted) -> Document:
    used = "fitted" if wanted.fits_engagement_weights and weights.weights is not None else "default"
    return {"used": used, "asked_for": wanted.fits_engagement_weights, **weights.report}


def _counts(log: ReplayLog, outcomes: Counter[tuple[str, str]]) -> RecordCounts:
    """What became of the records, by topic."""
    by_topic: dict[str, dict[str, int]] = {topic: {} for topic in TOPICS}
    for (topic, outcome), count in sorted(outcomes.items()):
        by_topic[topic][outcome] = count
    return RecordCounts(by_topic, Counter(str(refused.reason) for _, _, refused in log.dead_letters))


def _write_reports(report: Document, outputs: Outputs) -> None:
    # Raises for NaN and infinity, which orjson would turn to null and nobody would notice.
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
    if outputs.report is not None:
        outputs.report.parent.mkdir(parents=True, exist_ok=True)
        outputs.report.write_text(text + "\n", encoding="utf-8")
    if outputs.html is not None:
        from streams.report_html import write_html

        write_html(json.loads(text), outputs.html)


class _Dumper(yaml.SafeDumper):
    """Lists in one line, as far as they fit."""

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, flow_style=True)


def model_text(document: Document) -> str:
    """A model document as a file for people: lists and small mappings in one line each."""
    body = yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1_000
    )
    return HEADER.format(until=document["calibration"]["until"]) + body


def calibration_text(report: Document) -> str:
    """The report in a few lines for people, warnings last."""
    lifetime, history = report["lifetime_value"], report["history"]
    chosen = lifetime["models"][lifetime["chosen"]]
    lines = [
        f"{history['customers']:,} customers up to {history['until']}; judged by the {history['holdout_days']} days "
        f"after {history['cut']}",
        f"lifetime value: {lifetime['chosen']} ({chosen['status']}), times in {lifetime['time_unit']}s; "
        f"{lifetime['reason']}",
    ]
    validation = report["validation"]
    if validation is not None:
        purchases = validation["purchases"]
        lines.append(
            f"holdout: {purchases['expected']:,.0f} purchases expected, {purchases['actual']:,} made by "
            f"{validation['customers']:,} customers"
        )
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report["warnings"])])
