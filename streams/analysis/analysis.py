"""`ebbtide.analyze`: from a table of orders to tables of customers, of changes and of what was refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from enrichment.calibration.calibrate import CalibrationError
from enrichment.customer.validation import Horizons
from enrichment.model import Model
from schemas.topics import INPUT_TOPICS, InputTopic
from streams.analysis.at_the_end import standing_at_the_end
from streams.analysis.replaying import Replayed, Until, model_of, replayed, time_us
from streams.console.refusals import Refusals
from streams.errors import EbbtideError
from streams.insight.calibrate import Wanted, fit, model_text
from streams.insight.profile_rows import PROFILE_COLUMNS, profile_row
from streams.replay.log import Line, ReplayLog, ordered_log
from streams.replay.tables import Table, check_columns, frame_of, records_of, usual_currency

Document = dict[str, Any]

TABLES: Final[Mapping[InputTopic, str]] = {
    "purchases": "orders",
    "engagements": "engagements",
    "consents": "consents",
}
"""What the table of each topic is called."""
FIT: Final = "fit"
_FIELD_OF: Final = {"occurred_at": "date", "total": "amount"}
"""What the fields of a record are called in a table, where that is another name."""
_AMOUNTS: Final = (
    "revenue",
    "refunded",
    "margin",
    "revenue_30d",
    "revenue_90d",
    "revenue_365d",
    "margin_365d",
    "average_order_value_365d",
    "cost_to_serve_365d",
    "cost_to_acquire",
    "customer_lifetime_value_365d",
    "value_at_stake",
)
"""Columns of decimal text in the documents, which are numbers in the frames."""
_TIMES: Final = ("as_of", "due_at", "first_order_on", "last_order_on", "last_engaged_on")
CHANGE_COLUMNS: Final = (
    *("as_of", "customer_id", "dimension", "previous", "current", "direction", "trigger", "event_id"),
    *("drivers", "value", "previous_value", "churn_risk", "recency_days", "customer_lifetime_value_365d"),
    *("value_at_stake",),
    *("permissions", "life", "sequence", "change_id"),
)
TRIGGER_COLUMNS: Final = (
    *("as_of", "due_at", "customer_id", "segment", "tier", "lifecycle", "channels"),
    *("preferred_categories", "value_at_stake", "group", "trigger_id", "change_id"),
)
REFUSED_COLUMNS: Final = ("table", "row", "reason", "message")


@dataclass(frozen=True, slots=True, repr=False)
class Analysis:
    """What `analyze` found, as pandas frames. Amounts are in the model's base currency, times in UTC.

    Attributes:
        profiles: One row a customer: standing, scores (0 to 100), traits and aggregates, as of the end. Sorted by
            customer. What is not defined is missing, as the scores are of a customer who does not allow profiling.
        changes: One row a change of `segment`, `tier` or `lifecycle`, in the order of time. `trigger` says what kind of
            thing brought it about, and `drivers` which metrics moved most.
        triggers: One row a moment at which a customer who has slipped should be spoken to.
        refused: One row a row that was not taken: `table`, `row` (its place, counted from 0), `reason`, `message`.
        outcomes: Records by table and by `accepted`, `duplicate`, `dead_letter` (refused), `after_until` or `erased`.
        columns: By table, which column was taken for which field.
        model: The value model that decided.
        calibration: How good the fitted model is, as `ebbtide calibrate --report` tells it; None unless `model="fit"`.
        replayed: The documents behind the frames, as the worker would publish them.
    """

    profiles: pd.DataFrame
    changes: pd.DataFrame
    triggers: pd.DataFrame
    refused: pd.DataFrame
    outcomes: dict[tuple[str, str], int]
    columns: dict[str, dict[str, str]]
    model: Model
    calibration: Document | None
    replayed: Replayed
    _lines: Sequence[Line] = field(default=())

    def __repr__(self) -> str:
        return (
            f"<Analysis of {len(self.profiles):,} customers as of {self.replayed.as_of}: {len(self.changes):,} "
            f"changes, {len(self.triggers):,} triggers, {len(self.refused):,} rows refused>"
        )

    def report(self, path: str | Path) -> Path:
        """Write a page about the analysis (HTML; it loads nothing from elsewhere); gives its path.

        Raises:
            OSError: It cannot be written.
        """
        from streams.analysis.page import page_of

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page_of(self), encoding="utf-8")
        return path

    def write_records(self, folder: str | Path) -> list[Path]:
        """Write the records that were made of the tables as JSON Lines, one file a topic; gives their paths.

        `ebbtide replay` takes them, and so does a topic of the worker's.

        Raises:
            OSError: They cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for topic in INPUT_TOPICS:
            values = [line.value for line in self._lines if line.topic == topic]
            if values:
                paths.append(folder / f"{topic}.jsonl")
                paths[-1].write_bytes(b"".join(value + b"\n" for value in values))
        return paths

    def write_model(self, path: str | Path) -> Path:
        """Write the model as a file (YAML) that `EBBTIDE_MODEL` and `load_model` take; gives its path.

        Raises:
            OSError: It cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(model_text(self.model.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
        return path


def analyze(
    orders: Table,
    engagements: Table | None = None,
    consents: Table | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    model: Model | str | Path | None = None,
    until: Until = None,
    horizons: Horizons | None = None,
    history: bool = True,
) -> Analysis:
    """Score the customers of a table of orders, and tell who moved, when and why.

        analysis = ebbtide.analyze("orders.csv", columns={"customer_id": "CustomerNo"}, model="fit")
        analysis.changes.query("direction == 'downgrade'").tail()
        analysis.report("report.html")

    Each table is a pandas frame, rows as mappings, or a file (CSV, TSV, Parquet, JSON Lines; compressed or not).
    Columns are found by common names, whatever their case and signs (`Customer ID`, `InvoiceDate`). Rows become the
    records that the worker takes, and pass through the same rules: the results are those of `ebbtide replay` on
    `Analysis.write_records`.

    | table | needed | optional |
    |---|---|---|
    | orders | `customer_id`, `date`, `amount` | `order_id`, `currency`, `kind`, `cost_of_goods`, `channel` |
    | engagements | `customer_id`, `date`, `kind` | `channel`, `campaign_id`, `automated`, `cost`, `score` |
    | consents | `customer_id`, `date` | `kind`, `purpose`, `granted`, `expires_at` |

    - Rows of one customer with the same `order_id` are lines of one order: their amounts are added up. Without an
      `order_id` each row is an order. Where no column is the `amount`, it is `quantity` times `unit_price`.
    - Where any table has an `event_id`, its rows are records as they are, and a repeated id is dropped as a repeat.
    - Amounts are 0 or more. Money that was given back is a row of `kind` `refund` with the order's `order_id`.
    - Dates without an offset are UTC. Text is read as ISO 8601, or as numbers such as 31/12/2024, where one of the
      column shows which number is the day; convert any other format with `pandas.to_datetime`.
    - Columns `region`, `vertical`, `product_line` and `customer_type` become attributes of the customer, and so does
      any column that `columns` names as `attributes.something`.
    - Without a column `currency` amounts are in the model's base currency. The built-in model has no exchange rates:
      its base is the currency of most orders, and rows in any other are refused.

    Needs pandas, which is installed with Ebbtide.

    Args:
        orders: What customers bought.
        engagements: What they opened, clicked, visited or declared.
        consents: What they allowed, and who asked to be erased.
        columns: Field to column, for columns of other names, such as `{"customer_id": "CustomerNo"}`; for every table
            that has this column.
        model: The value model or its file. None takes the built-in one, whose thresholds are nobody's in particular;
            `"fit"` fits them to this history, as `ebbtide calibrate` does.
        until: Rows after this time are left out, and every profile is as of it. None takes the latest row.
        horizons: How late a record may be; None takes the contract's limits.
        history: False tells how everyone stands at the end alone, by the plain rules, as after a first load: no moves,
            no triggers, and seconds instead of minutes for a hundred thousand orders.

    Raises:
        UsageError: A needed column is missing, or `columns` names one that there is not.
        EbbtideError: No model can be fitted to this history.
        ModelError: The model's file does not fit.
        RefusedError: `until` is no time.
        OSError: A file cannot be read.
    """
    given: dict[InputTopic, Any] = {"consents": consents, "purchases": orders, "engagements": engagements}
    tables = {topic: frame_of(table) for topic, table in given.items() if table is not None}
    check_columns(columns or {}, tables)
    is_built_in = model is None or model == FIT
    base = model_of(None if is_built_in else model)
    currency = usual_currency(tables["purchases"], columns or {}) if is_built_in else None
    if currency is not None:
        base = base.with_base_currency(currency)
    found = [
        records_of(topic, TABLES[topic], table, columns or {}, base.base_currency)
        for topic, table in tables.items()
    ]
    lines = [line for records in found for line in records.lines]
    until_us = time_us(until)
    log = ordered_log(lines, base, until_us)
    for records in found:
        for line, why in records.refused:
            log.refuse(line, why)
    calibration = None
    if model == FIT:
        base, calibration = _fitted(log, base, until_us, horizons)
    made = (replayed if history else standing_at_the_end)(log, base, until_us, horizons)
    return Analysis(
        *_frames(made),
        outcomes={(TABLES[topic], name): count for (topic, name), count in _counted(made.outcomes)},
        columns={TABLES[records.topic]: records.columns for records in found},
        model=base,
        calibration=calibration,
        replayed=made,
        _lines=lines,
    )


def _fitted(
    log: ReplayLog, base: Model, until_us: int | None, horizons: Horizons | None
) -> tuple[Model, Document]:
    """A model for this history, and how good it is."""
    try:
        document, report = fit(log, base, until_us, Wanted(name="fitted"), horizons, Refusals("rows"))
    except CalibrationError as error:
        raise EbbtideError(f"no model was fitted: {error}") from error
    # As the report's file has it: lists instead of tuples, and no NaN.
    return Model.model_validate(document), json.loads(json.dumps(report, allow_nan=False))


def _counted(outcomes: Counter[tuple[str, str]]) -> list[tuple[tuple[InputTopic, str], int]]:
    return [
        ((topic, name), count)
        for topic in TABLES
        for (of, name), count in sorted(outcomes.items())
        if of == topic
    ]


def _frames(made: Replayed) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    changes = [
        {
            **change,
            **change["traits"],
            **change["reason"],
            "value": change["scores"]["value"],
            "previous_value": change["previous_scores"]["value"],
        }
        for change in made.changes
    ]
    refused = [
        {"table": one.file, "row": one.line - 1, "reason": one.reason, "message": _of_the_table(one.message)}
        for one in made.refused
    ]
    return (
        _frame([profile_row(profile) for profile in made.profiles], PROFILE_COLUMNS),
        _frame(changes, CHANGE_COLUMNS),
        _frame(made.triggers, TRIGGER_COLUMNS),
        _frame(refused, REFUSED_COLUMNS),
    )


def _of_the_table(message: str) -> str:
    """What is wrong with a record, said of the row that it was made of."""
    of, colon, rest = message.partition(":")
    return f"{_FIELD_OF.get(of, of)}{colon}{rest}"


def _frame(documents: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """These columns of the documents; amounts as numbers, times as times."""
    told = {
        column: pd.Series([document.get(column) for document in documents], dtype=object)
        for column in columns
    }
    for column in columns:
        if column in _AMOUNTS:
            told[column] = pd.to_numeric(told[column])
        elif column in _TIMES:
            told[column] = pd.to_datetime(told[column], format="ISO8601", utc=True)
        else:
            told[column] = told[column].infer_objects()
    return pd.DataFrame(told, columns=list(columns))
