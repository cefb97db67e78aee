"""Which core computes, and what is told of it; tests/streams/test_compiled_replay.py compares the cores."""

from __future__ import annotations

import json
import math
import sys

import pytest

from enrichment import kernel
from enrichment.customer.validation import Horizons
from enrichment.kernel import DeclinedError, KernelError, core_of, given_model, told
from enrichment.model import Model, load_model, parse_model


@pytest.fixture
def _not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""
    monkeypatch.setitem(sys.modules, "enrichment._kernel", None)
    monkeypatch.setattr(kernel, "_built", kernel._built.__wrapped__)


def with_rates(rates: dict[str, str]) -> Model:
    """The built-in model with these rates."""
    document = json.loads(load_model().model_dump_json(exclude_unset=True))
    return parse_model(json.dumps({**document, "rates": rates}), "a test")


def test_the_python_core_is_always_there() -> None:
    """It is the specification, and needs no compiler."""
    assert core_of("python").name == "python"


@pytest.mark.usefixtures("_not_built")
def test_without_the_compiled_core_auto_is_the_python_core() -> None:
    """One line says why; who asks for the compiled core gets an error instead."""
    assert core_of("auto").name == "python"
    assert "there is no compiled core here" in told()
    with pytest.raises(KernelError, match="there is no compiled core here"):
        core_of("compiled")


def test_rates_become_whole_numbers_over_one_denominator() -> None:
    """Nothing is lost: 1.0837 and 0.006725 are exact over their common denominator."""
    model = with_rates({"EUR": "1.0837", "JPY": "0.006725"})
    given = given_model(model, "replay", Horizons())
    for code, rate in model.rate_by_currency.items():
        numerator, largest = given["currencies"][code]
        assert numerator * rate.denominator == rate.numerator * given["rate_denominator"]
        assert largest == model.largest_micros_by_currency[code]


def test_every_number_of_the_built_in_model_is_finite() -> None:
    """What the compiled core is given is computed, not told by name."""
    given = given_model(load_model(), "replay", Horizons())
    numbers = [*given["decay_of_sums"], *given["value_weights"]]
    numbers += [limit for limits in given["thresholds"] for limit in limits]
    assert all(math.isfinite(number) for number in numbers)
    assert sum(given["value_weights"]) == pytest.approx(1.0)


def test_rates_beyond_62_bits_are_declined() -> None:
    """The compiled core's products have 128 bits."""
    with pytest.raises(DeclinedError, match="62 bits"):
        given_model(with_rates({"EUR": "1.000000000000000000000001"}), "replay", Horizons())
