"""Some of many customers, drawn while their records are read."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Sequence

import pytest

from schemas.topics import INPUT_TOPICS
from streams.insight.customer_sample import CustomerSample
from streams.replay.log import Line

CUSTOMERS = 3_000


def line(customer: str, number: int = 0, **more: object) -> Line:
    value = json.dumps({"event_id": f"e{number}", "customer_id": customer, **more}).encode()
    return Line(INPUT_TOPICS[number % len(INPUT_TOPICS)], value, "file", number)


def some_of_each() -> list[Line]:
    """None to three records of each customer, in some order."""
    lines = [
        line(f"c{customer:05}", number) for customer in range(CUSTOMERS) for number in range(customer % 4)
    ]
    random.Random(7).shuffle(lines)
    return lines


def taken(most: int, lines: Sequence[Line]) -> CustomerSample:
    sample = CustomerSample(most)
    sample.take(lines)
    return sample


def ids(lines: Sequence[Line]) -> list[str]:
    return [json.loads(each.value)["customer_id"] for each in lines]


def test_fewer_customers_are_all_kept_in_the_order_of_reading() -> None:
    lines = some_of_each()
    for most in (0, CUSTOMERS):
        sample = taken(most, lines)
        assert sample.lines == lines
        assert (sample.share, sample.is_partial) == (1.0, False)
        assert sample.customers_in_all == len(set(ids(lines)))


@pytest.mark.parametrize("most", [1, 10, 200, 1_500])
def test_the_smallest_hashes_are_drawn_with_all_their_records(most: int) -> None:
    """Whatever the order of the records."""
    lines = some_of_each()
    sample = taken(most, lines)
    everyone = sorted(set(ids(lines)), key=lambda own: zlib.crc32(own.encode()))
    chosen = set(everyone[:most])
    assert sample.lines == [each for each in lines if json.loads(each.value)["customer_id"] in chosen]
    again = taken(most, lines[::-1])
    assert again.lines == sample.lines[::-1]
    assert again.share == sample.share
    assert sample.is_partial


def test_how_many_there_are_is_told_nearly() -> None:
    """Within four standard errors of 1 / √k."""
    sample = taken(400, some_of_each())
    everyone = CUSTOMERS * 3 / 4
    assert abs(sample.customers_in_all - everyone) < 4 * everyone / 400**0.5


def test_a_customer_is_the_same_however_the_record_names_them() -> None:
    """Escapes, white space, and another field of the same name within are told apart from the customer's own."""
    own, other = 'é"1', "zz"
    values = [
        json.dumps({"customer_id": own}),
        json.dumps({"customer_id": own}, ensure_ascii=False),
        json.dumps({"attributes": {"customer_id": other}, "customer_id": own}, indent=1),
        json.dumps({"attributes": {"note": '"customer_id": "zz"'}, "customer_id": own}),
    ]
    lines = [Line("purchases", value.encode(), "file", at) for at, value in enumerate(values)]
    assert taken(0, lines).customers_in_all == 1


def test_records_without_a_customer_keep_their_share() -> None:
    """So that the share of refused records stays what it is."""

    def lines() -> Iterator[Line]:
        for number, each in enumerate(some_of_each()):
            yield each
            yield Line("purchases", b"{" if number % 2 else b"[%d]" % number, "file", number)

    sample = taken(300, list(lines()))
    nameless = sum(b"customer_id" not in each.value for each in sample.lines)
    assert 0.8 < nameless / (len(sample.lines) - nameless) < 1.25
