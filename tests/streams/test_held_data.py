"""`ebbtide export`: all that is held of one customer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from enrichment.days import format_day
from streams.cli.commands import main
from streams.errors import EbbtideError
from streams.insight.held_data import export_customer, readable
from tests.services import RedisService
from tests.streams.held_group import HeldGroup, hold_group


@pytest.fixture(scope="module")
def group(redis_server: RedisService) -> HeldGroup:
    return hold_group(redis_server.url, "exported-group")


def one_with_everything(group: HeldGroup) -> str:
    """The customer with most orders among those with engagement."""
    known = [customer for customer in group.replayed.customers.values() if customer.state.engagement.days]
    return max(known, key=lambda customer: len(customer.state.orders.entries)).id


def exported(group: HeldGroup, customer_id: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(export_customer(group.settings, customer_id))
    return document


def leaves(value: Any) -> Iterator[Any]:
    """All single values, keys of objects included."""
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    else:
        yield value


def texts(value: Any) -> set[str]:
    """All text in a state as it is stored, without what is only known by a digest."""
    found = msgspec.json.decode(msgspec.json.encode(value))
    return {leaf for leaf in leaves(found) if isinstance(leaf, str) and not leaf.endswith("=")}


def test_the_profile_is_the_one_of_replay_and_amounts_and_days_are_readable(group: HeldGroup) -> None:
    """Oracle: replay's profile, but for its time; and an order of the state."""
    customer_id = one_with_everything(group)
    (held,) = exported(group, customer_id)["partitions"]
    expected = json.loads(json.dumps(group.profile_of(customer_id)))
    assert {**held["profile"], "as_of": ""} == {**expected, "as_of": ""}
    assert held["partition"] == group.partition_of[customer_id]
    state = group.replayed.customers[customer_id].state
    order_id, entry = next((of, each) for of, each in state.orders.entries.items() if each.version)
    told = held["state"]["orders"]["entries"][order_id]
    assert entry.version is not None
    assert entry.ordered_on is not None
    assert float(told["version"]["total"]) == entry.version.total_micros / 1e6
    assert told["ordered_on"] == format_day(entry.ordered_on)


def test_nothing_that_is_stored_is_left_out(group: HeldGroup) -> None:
    """Every text, and every digest of a record, is there; the walk covers every field of every part."""
    for customer in list(group.replayed.customers.values())[:40]:
        told = readable(customer.state)
        assert texts(customer.state) <= {leaf for leaf in leaves(told) if isinstance(leaf, str)}
        for name in customer.state.__struct_fields__:
            assert name.removesuffix("_us") in told
        assert set(told["purchases_seen"]["time_by_digest"]) == {
            digest.hex() for digest in customer.state.purchases_seen.time_us_by_digest
        }


def test_it_tells_where_else_records_may_be(group: HeldGroup) -> None:
    """The topics, of which the dead letters are known by their content only."""
    elsewhere = exported(group, one_with_everything(group))["elsewhere"]
    assert len(elsewhere["by_key"]) == 7
    assert elsewhere["by_content"] == [group.settings.topic("dead-letters")]


def test_nobody_is_made_up(group: HeldGroup) -> None:
    with pytest.raises(EbbtideError, match="no customer 'nobody'"):
        export_customer(group.settings, "nobody")


def test_the_command_prints_json(
    group: HeldGroup, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in group.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    customer_id = one_with_everything(group)
    assert main(["export", customer_id]) == 0
    assert json.loads(capsys.readouterr().out)["customer_id"] == customer_id
