"""Tables of orders, engagements and consents as the records that the worker takes.

Every row becomes a record first, and what is wrong with a row is what `decode` says of its record. So a table is never
taken more leniently than a topic.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import orjson
import pandas as pd

from schemas.amounts import MICROS_DIGITS
from schemas.decode import decode
from schemas.events import Purchase
from schemas.rejection import MALFORMED, Rejection
from schemas.topics import InputTopic
from streams.errors import EbbtideError, UsageError
from streams.files.bounded_lines import DEFAULT_LIMIT_BYTES, bounded_lines
from streams.files.file_kinds import BYTE_ORDER_MARK
from streams.files.frames import is_table, read_frame
from streams.files.opening import opened
from streams.replay.dates import other_dates
from streams.replay.log import Line

Table = pd.DataFrame | Iterable[Mapping[str, Any]] | str | Path
"""A pandas frame, rows as mappings, or a file: CSV, TSV, Parquet or JSON Lines, compressed or not."""
Record = dict[str, Any]

ATTRIBUTES: Final = "attributes."
"""A field of this beginning is what is known of the customer: `attributes.region`."""
_CUSTOMER = (
    "customerid customer customerno customernumber custid clientid client userid user accountid account "
    "memberid member email emailaddress customeremail useremail"
)
_DATE = "date occurredat orderdate invoicedate purchasedate transactiondate orderedat createdat timestamp datetime time"
_OF_ALL: Final[Mapping[str, str]] = {
    "event_id": "eventid",
    "customer_id": _CUSTOMER,
    "date": _DATE,
    "attributes.region": "region",
    "attributes.vertical": "vertical",
    "attributes.product_line": "productline",
    "attributes.customer_type": "customertype",
}
GUESSES: Final[Mapping[InputTopic, Mapping[str, str]]] = {
    "purchases": {
        **_OF_ALL,
        "order_id": "orderid orderno ordernumber order invoiceid invoiceno invoice transactionid transaction "
        "receiptid receiptno",
        "amount": "amount netamount subtotal total totalamount ordertotal ordervalue orderamount revenue sales "
        "spend value",
        "quantity": "quantity qty",
        "unit_price": "unitprice itemprice price",
        "currency": "currency currencycode",
        "kind": "kind",
        "cost_of_goods": "costofgoods cogs",
        "channel": "channel saleschannel",
    },
    "engagements": {
        **_OF_ALL,
        "kind": "kind event eventtype action",
        "channel": "channel",
        "campaign_id": "campaignid campaign",
        "automated": "automated",
        "cost": "cost",
        "currency": "currency currencycode",
        "score": "score",
    },
    "consents": {
        **_OF_ALL,
        "kind": "kind",
        "purpose": "purpose channel",
        "granted": "granted optin consent",
        "expires_at": "expiresat",
    },
}
"""By topic and field, which names of columns are taken for it: the first that is there, in lower case without signs."""
NEEDED: Final[Mapping[InputTopic, tuple[str, ...]]] = {
    "purchases": ("customer_id", "date", "amount"),
    "engagements": ("customer_id", "date", "kind"),
    "consents": ("customer_id", "date"),
}
_LINE_AMOUNT: Final = ("quantity", "unit_price")
"""What an order's amount is made of where there is no column for it."""
_CODE: Final = re.compile(r"[A-Z]{3}")
_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(slots=True)
class Records:
    """The records of one table; the `number` of a line is the row's place, counted from 1.

    `columns` tells which column was taken for which field. `refused` are rows that never became a record.
    """

    topic: InputTopic
    columns: dict[str, str]
    lines: list[Line] = field(default_factory=list)
    refused: list[tuple[Line, Rejection]] = field(default_factory=list)


def records_of(
    topic: InputTopic, name: str, table: Any, columns: Mapping[str, str], currency: str
) -> Records:
    """The records of a table that is called `name`; rows without a currency are in `currency`.

    Raises:
        UsageError: A column is missing, or `columns` names a field that this library does not know.
        OSError: The file cannot be read.
    """
    frame = frame_of(table)
    chosen = columns_of(topic, name, [str(column) for column in frame.columns], columns)
    records = Records(topic, chosen)
    cells = {of: _cells(of, frame[column].tolist()) for of, column in chosen.items()}
    if topic == "purchases" and "amount" not in cells:
        cells["amount"] = map(_line_amount, cells.pop("quantity"), cells.pop("unit_price"))
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    make = _MAKERS[topic]
    documents = [make(number, row, currency) for number, row in enumerate(rows, start=1)]
    lines = [Line(topic, _json(row), name, number) for number, row in enumerate(documents, start=1)]
    if topic == "purchases" and "event_id" not in chosen and "order_id" in chosen:
        _join_lines_of_orders(lines, records)
    else:
        records.lines = lines
    return records


def usual_currency(frame: pd.DataFrame, columns: Mapping[str, str]) -> str | None:
    """The code in which most orders of a table are, or None where it names none."""
    column = columns_of("purchases", "orders", [str(column) for column in frame.columns], columns).get(
        "currency"
    )
    if column is None:
        return None
    codes = Counter(
        code for code in _cells("currency", frame[column].tolist()) if code and _CODE.fullmatch(code)
    )
    return codes.most_common(1)[0][0] if codes else None


def frame_of(table: Table) -> pd.DataFrame:
    """The table as a frame. A file's cells stay text, so that `0017` stays an id; empty ones are missing."""
    if isinstance(table, (str, Path)):
        path = Path(table)
        with opened(path) as file:
            if is_table(file.head, path):
                return read_frame(file, path, DEFAULT_LIMIT_BYTES)
            lines = bounded_lines(file.file, str(path), file.compressed_bytes, DEFAULT_LIMIT_BYTES)
            rows = [_row(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
            return pd.DataFrame(rows)
    return table if isinstance(table, pd.DataFrame) else pd.DataFrame(list(table))


def columns_of(
    topic: InputTopic, name: str, there: Sequence[str], given: Mapping[str, str]
) -> dict[str, str]:
    """Which column is taken for which field: the one that was given, or else the first guess that is there."""
    by_plain_name: dict[str, str] = {}
    for column in there:
        by_plain_name.setdefault(re.sub(r"[^a-z0-9]", "", column.lower()), column)
    chosen = {}
    for of, guesses in GUESSES[topic].items():
        found = next((by_plain_name[guess] for guess in guesses.split() if guess in by_plain_name), None)
        if found is not None:
            chosen[of] = found
    for of, column in given.items():
        if of not in GUESSES[topic] and not of.startswith(ATTRIBUTES):
            continue
        if column in there:
            chosen[of] = column
    if "amount" in chosen:
        chosen = {of: column for of, column in chosen.items() if of not in _LINE_AMOUNT}
    missing = [of for of in NEEDED[topic] if of not in chosen]
    if missing == ["amount"] and all(of in chosen for of in _LINE_AMOUNT):
        missing = []
    if missing:
        raise UsageError(
            f"{name}: no column for {', '.join(missing)} among {', '.join(there) or 'no columns'}; "
            f'say which with columns={{"{missing[0]}": ...}}, in a command with --columns {missing[0]}=...'
        )
    return chosen


def check_columns(given: Mapping[str, str], tables: Mapping[InputTopic, Table]) -> None:
    """Refuse what `columns` names and no table has.

    Raises:
        UsageError: A field that there is not, or a column that there is not.
    """
    known = list(dict.fromkeys(of for topic in tables for of in GUESSES[topic]))
    there = {str(column) for table in tables.values() for column in frame_of(table).columns}
    for of, column in given.items():
        if of not in known and not of.startswith(ATTRIBUTES):
            raise UsageError(f"columns: no field is called {of!r}; there are {', '.join(known)}")
        if column not in there:
            raise UsageError(
                f"columns: no table has a column {column!r}; there are {', '.join(sorted(there))}"
            )


# ---------------------------------------------------------------- rows


def _purchase(number: int, row: Mapping[str, Any], currency: str) -> Record:
    kind = row.get("kind") or "order"
    order_id = row.get("order_id") or f"row-{number}"
    event_id = order_id if kind == "order" else f"{kind}/{order_id}/row-{number}"
    return {
        "event_id": row.get("event_id") or event_id,
        "customer_id": row["customer_id"],
        "occurred_at": row["date"],
        "kind": kind,
        "order_id": order_id,
        "currency": row.get("currency") or currency,
        "total": row["amount"],
        "cost_of_goods": row.get("cost_of_goods"),
        "channel": row.get("channel"),
        "attributes": _attributes(row),
    }


def _engagement(number: int, row: Mapping[str, Any], currency: str) -> Record:
    cost = row.get("cost")
    return {
        "event_id": row.get("event_id") or f"row-{number}",
        "customer_id": row["customer_id"],
        "occurred_at": row["date"],
        "kind": row["kind"],
        "channel": row.get("channel"),
        "campaign_id": row.get("campaign_id"),
        "automated": row.get("automated"),
        "cost": cost,
        "currency": (row.get("currency") or currency) if cost is not None else None,
        "score": row.get("score"),
        "attributes": _attributes(row),
    }


def _consent(number: int, row: Mapping[str, Any], _: str) -> Record:
    return {
        "event_id": row.get("event_id") or f"row-{number}",
        "customer_id": row["customer_id"],
        "occurred_at": row["date"],
        "kind": row.get("kind") or "consent",
        "purpose": row.get("purpose"),
        "granted": row.get("granted"),
        "expires_at": row.get("expires_at"),
        "attributes": _attributes(row),
    }


_MAKERS: Final[Mapping[InputTopic, Callable[[int, Mapping[str, Any], str], Record]]] = {
    "purchases": _purchase,
    "engagements": _engagement,
    "consents": _consent,
}


def _attributes(row: Mapping[str, Any]) -> Record | None:
    found = {
        of.removeprefix(ATTRIBUTES): value
        for of, value in row.items()
        if of.startswith(ATTRIBUTES) and value is not None
    }
    return found or None


def _json(record: Record) -> bytes:
    """What is missing is left out."""
    return orjson.dumps({name: value for name, value in record.items() if value is not None}, default=str)


def _join_lines_of_orders(lines: Sequence[Line], records: Records) -> None:
    """Rows of one customer, order and currency are lines of one order: their amounts are added up.

    The order has the date of its earliest row and the place of its first one. A row that is refused is left out of it.
    """
    orders: dict[tuple[str, str], list[tuple[Line, Purchase]]] = {}
    for line in lines:
        event = decode("purchases", line.value)
        if isinstance(event, Rejection):
            records.refused.append((line, event))
            continue
        assert isinstance(event, Purchase)
        if event.kind != "order":
            records.lines.append(line)
            continue
        rows = orders.setdefault((event.customer_id, event.order_id), [])
        if rows and rows[0][1].currency != event.currency:
            why = Rejection(MALFORMED, "currency: another than that of the order's first row")
            records.refused.append((line, why))
            continue
        rows.append((line, event))
    for rows in orders.values():
        first = rows[0][0]
        records.lines.append(first if len(rows) == 1 else first._replace(value=_joined(rows)))
    records.lines.sort(key=lambda line: line.number)


def _joined(rows: Sequence[tuple[Line, Purchase]]) -> bytes:
    events = [event for _, event in rows]
    earliest = min(range(len(rows)), key=lambda at: events[at].occurred_at_us)
    record: Record = orjson.loads(rows[0][0].value)
    record["occurred_at"] = orjson.loads(rows[earliest][0].value)["occurred_at"]
    record["total"] = _decimal(sum(event.total_micros for event in events))
    costs = [event.cost_of_goods_micros for event in events]
    record["cost_of_goods"] = (
        None if None in costs else _decimal(sum(cost for cost in costs if cost is not None))
    )
    return _json(record)


def _decimal(micros: int) -> str:
    whole, fraction = divmod(micros, 10**MICROS_DIGITS)
    return f"{whole}.{fraction:0{MICROS_DIGITS}}"


# ---------------------------------------------------------------- cells


def _row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """A line of JSON Lines as a row."""
    try:
        row = orjson.loads(line.removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise EbbtideError(f"{path}, line {number}: neither a table nor JSON Lines: {error}") from error
    if not isinstance(row, dict):
        raise EbbtideError(f"{path}, line {number}: a row is a JSON object")
    return row


def _line_amount(quantity: Any, price: Any) -> Any:
    """So many at this price; None where one of them is missing, and as it stands where it is no number."""
    if quantity is None or price is None:
        return None
    try:
        return f"{(Decimal(str(quantity)) * Decimal(str(price))).normalize():f}"
    except InvalidOperation:
        return price


def _cells(of: str, values: Sequence[Any]) -> Iterator[Any]:
    read: Callable[[Any], Any] = _READERS.get(of, _text)
    if read is _time and any(isinstance(value, str) and not _is_iso(value) for value in values):
        read = _reader_of_other_dates(values)
    return (None if _is_missing(value) else read(value) for value in values)


def _is_missing(value: Any) -> bool:
    """Nothing, an empty text, or what is not equal to itself, as NaN and pandas' NaT are."""
    if value is None or value is pd.NA:
        return True
    return value == "" if isinstance(value, str) else bool(value != value)


def _text(value: Any) -> str:
    """Ids are text; 17850.0 is what pandas makes of the id 17850 where others are missing."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text.strip())
    except ValueError:
        return text == ""
    return True


def _reader_of_other_dates(values: Sequence[Any]) -> Callable[[Any], Any]:
    """Of a column in which some text is no ISO 8601."""
    other = other_dates(values)

    def read(value: Any) -> Any:
        if other is None or not isinstance(value, str) or _is_iso(value):
            return _time(value)
        return _time(other(value) or value)

    return read


def _time(value: Any) -> Any:
    """A time of the wire: without an offset it is UTC. Text that is no ISO 8601 stays as it is, and is refused."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return value
    if isinstance(value, datetime):
        at = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return at.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    return value


def _amount(value: Any) -> Any:
    """An amount of the wire: a decimal text. A float is rounded to micro-units, which takes its error away."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        value = Decimal(repr(round(float(value), MICROS_DIGITS)))
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value).strip()


def _currency(value: Any) -> str:
    return str(value).strip().upper()


def _truth(value: Any) -> Any:
    """True or false, however it is usually written; what is neither is refused later."""
    return _TRUTH.get(str(value).strip().lower(), value)


def _number(value: Any) -> Any:
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "date": _time,
    "expires_at": _time,
    "amount": _amount,
    "unit_price": _amount,
    "cost": _amount,
    "cost_of_goods": _amount,
    "currency": _currency,
    "granted": _truth,
    "automated": _truth,
    "score": _number,
}
