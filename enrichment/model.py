"""The value model: every number that turns a history into scores and standings, in one versioned file.

The built-in default (`default_model.yaml`, beside this module) works without calibration. A model is
immutable; another rate, weight or threshold is another model.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from enrichment.lifetime.empirical_hazard import EmpiricalHazard
from enrichment.lifetime.lifetime_value import BGNBD, ParetoNBD, Predictor
from enrichment.lifetime.mbg_cnbd import MBGCNBD, MOST_STAGES
from enrichment.lifetime.recalibrated import FEATURES, Correction, RecalibratedParetoNBD
from enrichment.money import (
    BASE_RATE,
    MAX_AMOUNT_MICROS,
    MAX_STORED,
    MICROS_PER_UNIT,
    largest_convertible_micros,
    minor_unit_digits,
)
from enrichment.yaml_text import Mapping, YamlTextError, read_mapping
from schemas.profiles import SEGMENTS

METRIC_GROUPS: dict[str, str] = {
    "recency_days": "business",
    "order_count_365d": "business",
    "revenue_365d": "business",
    "margin_365d": "business",
    "average_order_value_365d": "business",
    "customer_lifetime_value_365d": "business",
    "weighted_engagement_90d": "engagement",
    "consent_breadth": "engagement",
    "cost_to_serve_ratio": "cost",
    "cost_to_acquire_ratio": "cost",
    "declared_intent": "potential",
    "engagement_ahead_of_spend": "potential",
    "growth": "potential",
}
"""Every metric that a score is made of, and the score it belongs to. docs/scores.md defines each."""
METRICS: tuple[str, ...] = tuple(METRIC_GROUPS)
GROUPS: tuple[str, ...] = ("business", "engagement", "cost", "potential")

TimeUnit = Literal["day", "week", "month"]
DAYS_PER_UNIT: dict[TimeUnit, float] = {"day": 1.0, "week": 7.0, "month": 365.25 / 12}
"""A month is a twelfth of a year."""


class ModelError(ValueError):
    """A model file that cannot be used; the message names the key and what is allowed."""


def _exact_decimal(value: object) -> Decimal:
    """YAML writes 1.08 as a float; its shortest decimal form is what the author meant."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise ValueError("must be a decimal number")
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise ValueError("must be a decimal number") from None
    if not number.is_finite():
        raise ValueError("must be finite")
    return number


ExactDecimal = Annotated[Decimal, BeforeValidator(_exact_decimal)]
Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Breakpoint = tuple[Finite, Points]
Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Breakpoints as two arrays: where, and how many points there."""


def _ascending(breakpoints: tuple[Breakpoint, ...]) -> tuple[Breakpoint, ...]:
    if any(right[0] <= left[0] for left, right in pairwise(breakpoints)):
        raise ValueError("breakpoints must ascend strictly")
    return breakpoints


def _curve(breakpoints: tuple[Breakpoint, ...]) -> Curve:
    return np.array([at for at, _ in breakpoints]), np.array([points for _, points in breakpoints])


Breakpoints = Annotated[tuple[Breakpoint, ...], AfterValidator(_ascending)]


_UNKNOWN_KEY = "unknown_key"


def _unknown_key(name: object, known: Iterable[str]) -> PydanticCustomError:
    """The error for a key that there is not, with the nearest one that there is."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(names)}"
    return PydanticCustomError(_UNKNOWN_KEY, "no such key; {hint}", {"hint": hint, "key": str(name)})


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        """A misspelt key is named with the one that was meant; else the one that was meant is said to be missing."""
        for name in data if isinstance(data, dict) else ():
            if name not in cls.model_fields:
                raise _unknown_key(name, cls.model_fields)
        return data


def _keys_among(known: Iterable[str]) -> BeforeValidator:
    """Refuse a mapping with another key."""

    def check(value: object) -> object:
        for name in value if isinstance(value, dict) else ():
            if name not in known:
                raise _unknown_key(name, known)
        return value

    return BeforeValidator(check)


class EngagementKind(_Part):
    """What one interaction of a kind counts, and what it costs when its record does not say."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    unit_cost: Annotated[ExactDecimal, Field(ge=0)] = Decimal(0)

    @cached_property
    def unit_cost_micros(self) -> int:
        """`unit_cost` in micro-units of the base currency."""
        return round(self.unit_cost * MICROS_PER_UNIT)


class Engagement(_Part):
    """How interactions count, and how fast that fades."""

    half_life_days: Annotated[float, Field(gt=0)]
    kinds: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], EngagementKind]


class Metric(_Part):
    """How one metric becomes 0–100 points: straight lines between breakpoints, flat outside them."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    breakpoints: Annotated[Breakpoints, Field(min_length=1)]
    missing: Points

    @cached_property
    def curve(self) -> Curve:
        """The breakpoints as two arrays: where, and how many points there."""
        return _curve(self.breakpoints)


class DeclaredIntent(_Part):
    """Points for one declared answer: by name (`values`), by size (`breakpoints`), or else `other`."""

    values: dict[str, Points] = {}
    breakpoints: tuple[Breakpoint, ...] = ()
    other: Points = 0.0
    weight: Annotated[float, Field(gt=0)] = 1.0

    @field_validator("values")
    @classmethod
    def _in_small_letters(cls, value: dict[str, float]) -> dict[str, float]:
        return {answer.strip().lower(): points for answer, points in value.items()}

    def points(self, answer: str | float | bool) -> float:
        """0–100 points for an answer; numbers written as text count as numbers."""
        text = str(answer).lower() if isinstance(answer, bool) else str(answer).strip().lower()
        if text in self.values:
            return self.values[text]
        if self.breakpoints and not isinstance(answer, bool):
            try:
                size = float(answer)
            except ValueError:
                return self.other
            if np.isfinite(size):
                return float(
                    np.interp(size, [at for at, _ in self.breakpoints], [p for _, p in self.breakpoints])
                )
        return self.other


class ParetoNBDParameters(_Part):
    """Pareto/NBD: purchases (`r`, `alpha`) and dropping out (`s`, `beta`); both scales in the time unit."""

    family: Literal["pareto_nbd"]
    r: Annotated[float, Field(gt=0)]
    alpha: Annotated[float, Field(gt=0)]
    s: Annotated[float, Field(gt=0)]
    beta: Annotated[float, Field(gt=0)]


class BGNBDParameters(_Part):
    """BG/NBD: purchases (`r`, `alpha`) and dropping out after one (`a`, `b`); `alpha` in the time unit."""

    family: Literal["bg_nbd"]
    r: Annotated[float, Field(gt=0)]
    alpha: Annotated[float, Field(gt=0)]
    a: Annotated[float, Field(gt=0)]
    b: Annotated[float, Field(gt=0)]


class MBGCNBDParameters(_Part):
    """MBG/CNBD-k, for regular buyers: gaps of `k` stages (`r`, `alpha`), dropping out after a purchase (`a`, `b`).

    With `k` = 1 it is MBG/NBD; `alpha` in the time unit.
    """

    family: Literal["mbg_cnbd_k"]
    k: Annotated[int, Field(ge=1, le=MOST_STAGES)]
    r: Annotated[float, Field(gt=0)]
    alpha: Annotated[float, Field(gt=0)]
    a: Annotated[float, Field(gt=0)]
    b: Annotated[float, Field(gt=0)]


class EmpiricalParameters(_Part):
    """Hazards of buying again, counted from a history, for customers whom neither model above describes.

    `EmpiricalHazard` says what each is: `typical_gap`, `active_within`, `silences` and `paces` in the time unit, the
    hazards per time unit.
    """

    family: Literal["empirical"]
    typical_gap: float
    active_within: float
    silences: tuple[float, ...]
    after_first: tuple[float, ...]
    paces: tuple[float, ...]
    hazards: tuple[tuple[float, ...], ...]

    @model_validator(mode="after")
    def _usable(self) -> EmpiricalParameters:
        EmpiricalHazard(**self.model_dump(exclude={"family"}))
        return self


class RecalibratedFeature(_Part):
    """What one feature of a recalibrated family adds, per unit, within the range that the fit has seen."""

    least: float
    most: float
    expected: float
    buys: float


class RecalibratedParameters(_Part):
    """Pareto/NBD (`r` to `beta`), corrected over `horizon_days` by what earlier cuts have shown.

    `RecalibratedParetoNBD` says how the corrections add up. `features` has each feature of it.
    """

    family: Literal["recalibrated"]
    r: Annotated[float, Field(gt=0)]
    alpha: Annotated[float, Field(gt=0)]
    s: Annotated[float, Field(gt=0)]
    beta: Annotated[float, Field(gt=0)]
    horizon_days: Annotated[int, Field(ge=1, le=800)]
    typical_gap_days: Annotated[float, Field(gt=0)]
    expected_intercept: float
    buys_intercept: float
    features: Annotated[dict[str, RecalibratedFeature], _keys_among(FEATURES)]

    @model_validator(mode="after")
    def _usable(self) -> RecalibratedParameters:
        self.predictor(1.0)
        return self

    def predictor(self, days_per_unit: float) -> RecalibratedParetoNBD:
        """The family itself, for times in units of so many days."""
        features = {name: Correction(**part.model_dump()) for name, part in self.features.items()}
        own = self.model_dump(exclude={"family", "r", "alpha", "s", "beta", "features"})
        base = ParetoNBD(self.r, self.alpha, self.s, self.beta)
        return RecalibratedParetoNBD(base=base, days_per_unit=days_per_unit, features=features, **own)


class GammaGammaParameters(_Part):
    """Gamma-Gamma: spend per purchase day; `gamma` in base units. The mean exists for `q` above 1 only."""

    p: Annotated[float, Field(gt=0)]
    q: Annotated[float, Field(gt=1)]
    gamma: Annotated[float, Field(gt=0)]


class LifetimeValue(_Part):
    """What predicts purchases and spend; times in `time_unit`."""

    time_unit: TimeUnit
    purchases: Annotated[
        ParetoNBDParameters
        | BGNBDParameters
        | MBGCNBDParameters
        | EmpiricalParameters
        | RecalibratedParameters,
        Field(discriminator="family"),
    ]
    spend: GammaGammaParameters
    discount_rate_per_year: Annotated[float, Field(ge=0)] = 0.0

    @property
    def discount_factor(self) -> float:
        """What a year's money is worth today if it comes evenly: the mean of (1 + rate)^-t for t from 0 to 1."""
        rate = self.discount_rate_per_year
        return rate / (1.0 + rate) / math.log1p(rate) if rate > 0.0 else 1.0

    @property
    def days_per_unit(self) -> float:
        """Days in one `time_unit`; a month is a twelfth of a year."""
        return DAYS_PER_UNIT[self.time_unit]

    @cached_property
    def purchase_model(self) -> Predictor:
        """What predicts purchases, by `purchases`; its times are in `time_unit`."""
        if isinstance(self.purchases, RecalibratedParameters):
            return self.purchases.predictor(self.days_per_unit)
        families: dict[str, Callable[..., Predictor]] = {
            "pareto_nbd": ParetoNBD,
            "bg_nbd": BGNBD,
            "mbg_cnbd_k": MBGCNBD,
            "empirical": EmpiricalHazard,
        }
        return families[self.purchases.family](**self.purchases.model_dump(exclude={"family"}))


class RfmQuintiles(_Part):
    """Four ascending cuts each; intervals are closed on the right, as in `pandas.cut`."""

    recency_days: tuple[Finite, Finite, Finite, Finite]
    order_count_365d: tuple[Finite, Finite, Finite, Finite]
    revenue_365d: tuple[Finite, Finite, Finite, Finite]

    @field_validator("*")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(right < left for left, right in pairwise(value)):
            raise ValueError("quintile cuts must ascend")
        return value


class Segments(_Part):
    """Thresholds on the lifetime-value score (0–100), on churn risk (0–1) and on potential (0–100)."""

    high: Points
    medium: Points
    high_churn_risk_limit: Annotated[float, Field(ge=0, le=1)]
    emerging_potential: Points

    @model_validator(mode="after")
    def _ordered(self) -> Segments:
        if self.high < self.medium:
            raise ValueError("high must not be below medium")
        return self


class TierThresholds(_Part):
    """The points from which on a customer belongs to a tier; below `field` is `inside`."""

    strategic: Points
    named: Points
    field: Points

    @model_validator(mode="after")
    def _ordered(self) -> TierThresholds:
        if not self.strategic >= self.named >= self.field:
            raise ValueError("thresholds must descend: strategic, named, field")
        return self


def _capacity(value: object) -> str:
    """A count, such as `50`, or a share of the customers with an order, such as `5%`."""
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+|[0-9]+(\.[0-9]+)?%", text):
        raise ValueError("must be a count, such as 50, or a share, such as 5%")
    if text.endswith("%") and float(text[:-1]) > 100:
        raise ValueError("must not be above 100%")
    return text


Capacity = Annotated[str, BeforeValidator(_capacity)]


class Tiers(_Part):
    """Thresholds on points of what customers bring, and on potential for customers without an order.

    By `value` the points are the value score, and `by_value` holds their thresholds. By `expected_margin` they are
    those of next year's expected margin (lifetime value less cost to serve, base units), on the line through
    `breakpoints`; `by_expected_margin` holds their thresholds, and `by_value` decides nothing.

    `capacities` are what the thresholds were made from, where they were: how many customers with an order each tier has
    room for. Nothing is decided by them.
    """

    by: Literal["value", "expected_margin"] = "value"
    by_value: TierThresholds
    by_potential: TierThresholds
    breakpoints: Breakpoints = ()
    by_expected_margin: TierThresholds | None = None
    capacities: Annotated[
        dict[Literal["strategic", "named", "field"], Capacity],
        _keys_among(("strategic", "named", "field")),
    ] = {}

    @model_validator(mode="after")
    def _complete(self) -> Tiers:
        is_given = bool(self.breakpoints), self.by_expected_margin is not None
        if self.by == "expected_margin" and is_given != (True, True):
            raise ValueError("by expected_margin needs breakpoints and by_expected_margin")
        if self.by == "value" and is_given != (False, False):
            raise ValueError("breakpoints and by_expected_margin need by: expected_margin")
        return self

    @property
    def thresholds(self) -> TierThresholds:
        """The thresholds that decide for customers with an order."""
        return self.by_value if self.by_expected_margin is None else self.by_expected_margin

    @cached_property
    def curve(self) -> Curve:
        """The breakpoints as two arrays: expected margin, and how many points there."""
        return _curve(self.breakpoints)


class Lifecycle(_Part):
    """Limits of risk (0–1), and for how many days after the first order a customer is `new`.

    With `window_days` the limits are those of silence risk, the probability of no purchase in so many days; those of
    churn risk, which looks 365 days ahead, decide nothing then.
    """

    at_risk_churn_risk: Annotated[float, Field(ge=0, le=1)]
    lapsed_churn_risk: Annotated[float, Field(ge=0, le=1)]
    new_days: Annotated[int, Field(ge=0)]
    window_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    at_risk_silence_risk: Annotated[float, Field(ge=0, le=1)] | None = None
    lapsed_silence_risk: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Lifecycle:
        if self.lapsed_churn_risk < self.at_risk_churn_risk:
            raise ValueError("lapsed_churn_risk must not be below at_risk_churn_risk")
        limits = (self.at_risk_silence_risk, self.lapsed_silence_risk)
        if self.window_days is None:
            if limits != (None, None):
                raise ValueError("at_risk_silence_risk and lapsed_silence_risk need window_days")
            return self
        at_risk, lapsed = limits
        if at_risk is None or lapsed is None:
            raise ValueError("window_days needs at_risk_silence_risk and lapsed_silence_risk")
        if lapsed < at_risk:
            raise ValueError("lapsed_silence_risk must not be below at_risk_silence_risk")
        return self

    @property
    def risk(self) -> Literal["churn_risk", "silence_risk"]:
        """The trait that `at_risk` and `lapsed` go by."""
        return "churn_risk" if self.window_days is None else "silence_risk"

    @property
    def limits(self) -> tuple[float, float]:
        """The risk from which on a customer is at risk, and lapsed: of silence with `window_days`, else of churn."""
        if self.at_risk_silence_risk is None or self.lapsed_silence_risk is None:
            return self.at_risk_churn_risk, self.lapsed_churn_risk
        return self.at_risk_silence_risk, self.lapsed_silence_risk


class DimensionHysteresis(_Part):
    """What one dimension has instead of what all have: a margin on its scores, and its dwell."""

    score_margin: Annotated[float, Field(ge=0, le=100)]
    dwell_days: Annotated[int, Field(ge=0)]


class Hysteresis(_Part):
    """How much a threshold must be passed by before a standing moves, and for how long it then stays.

    What `segment` and `tier` give holds for that dimension, in place of `score_margin` and `dwell_days`.
    """

    score_margin: Annotated[float, Field(ge=0, le=100)]
    churn_risk_margin: Annotated[float, Field(ge=0, le=1)]
    dwell_days: Annotated[int, Field(ge=0)]
    silence_risk_margin: Annotated[float, Field(ge=0, le=1)] | None = None
    segment: DimensionHysteresis | None = None
    tier: DimensionHysteresis | None = None

    @property
    def segment_margin(self) -> float:
        """The margin, in points, of the thresholds of segments."""
        return self.score_margin if self.segment is None else self.segment.score_margin

    @property
    def tier_margin(self) -> float:
        """The margin, in points, of the thresholds of tiers."""
        return self.score_margin if self.tier is None else self.tier.score_margin

    @property
    def dwell_by_dimension(self) -> tuple[int, int, int]:
        """Days that a segment, a tier and a lifecycle stage last at least."""
        segment, tier = (
            self.dwell_days if own is None else own.dwell_days for own in (self.segment, self.tier)
        )
        return segment, tier, self.dwell_days


class OwnReturn(_Part):
    """Who is not written to yet: whose chance of a purchase in the next `within_days` days is higher than `above`."""

    within_days: Annotated[int, Field(ge=1, le=365)]
    above: Annotated[float, Field(ge=0, le=1)]


class Reactivation(_Part):
    """When a slipping customer is written to, and how many are left alone as a control group.

    With `own_return`, who will probably come back alone is waited for.
    """

    triggers: tuple[Literal["time", "event", "correction", "model", "consent"], ...] = ("time",)
    delay_days: Annotated[
        dict[Literal["high", "medium", "emerging", "low", "prospect"], Annotated[int, Field(ge=1)]],
        _keys_among(SEGMENTS),
    ]
    long_tenure_days: Annotated[int, Field(ge=0)]
    long_tenure_extra_days: int
    engaged_within_days: Annotated[int, Field(ge=0)]
    engaged_extra_days: int
    control_share: Annotated[float, Field(ge=0, le=1)]
    own_return: OwnReturn | None = None

    @field_validator("delay_days")
    @classmethod
    def _complete(cls, delay_days: dict[str, int]) -> dict[str, int]:
        missing = [segment for segment in SEGMENTS if segment not in delay_days]
        if missing:
            raise ValueError(f"must give the days of every segment; missing {', '.join(missing)}")
        return delay_days


class Reference(_Part):
    """How a metric was spread over the customers at a calibration: minimum, deciles and maximum where it is defined.

    `zero` is the share of these for whom it was 0, `missing` the share of all customers for whom it was not defined.
    """

    deciles: tuple[Finite, ...] = ()
    zero: Annotated[float, Field(ge=0, le=1)] | None = None
    missing: Annotated[float, Field(ge=0, le=1)]


class SegmentWorth(_Part):
    """What customers of one segment brought on average in the `days` after a cut; money in base units."""

    days: Annotated[int, Field(ge=1)]
    customers: Annotated[int, Field(ge=1)]
    revenue_per_customer: Finite
    margin_per_customer: Finite


class Calibration(_Part):
    """What a fitted model was fitted to: for people, and for telling how far metrics have drifted since."""

    until: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    customers: Annotated[int, Field(ge=0)]
    metrics: dict[str, Reference] = {}
    segments: dict[Literal["high", "medium", "emerging", "low", "prospect"], SegmentWorth] = {}


class Model(_Part):
    """One version of the value model. Raises `ModelError` from `load_model` when a file does not fit."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    version: Annotated[str, Field(min_length=1, max_length=128)]
    base_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    rates: dict[Annotated[str, Field(pattern=r"^[A-Z]{3}$")], Annotated[ExactDecimal, Field(gt=0)]] = {}
    cost_ratio: Annotated[ExactDecimal, Field(ge=0, le=10)]
    cost_per_refund: Annotated[ExactDecimal, Field(ge=0)]
    profiling: Literal["opt_out", "opt_in"] = "opt_out"
    other_purposes: tuple[str, ...] = ()
    """Purposes, besides `profiling`, that are no channel to reach a customer by."""
    engagement: Engagement
    declared: dict[str, DeclaredIntent]
    groups: Annotated[
        dict[Literal["business", "engagement", "cost", "potential"], Annotated[float, Field(ge=0)]],
        _keys_among(GROUPS),
    ]
    metrics: Annotated[dict[str, Metric], _keys_among(METRICS)]
    lifetime_value: LifetimeValue
    rfm: RfmQuintiles
    segments: Segments
    tiers: Tiers
    lifecycle: Lifecycle
    hysteresis: Hysteresis
    reactivation: Reactivation
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _complete(self) -> Model:
        if set(self.metrics) != set(METRICS):
            missing, extra = (
                sorted(set(METRICS) - set(self.metrics)),
                sorted(set(self.metrics) - set(METRICS)),
            )
            raise ValueError(
                f"metrics must be exactly those of docs/scores.md; missing {missing}, unknown {extra}"
            )
        if set(self.groups) != set(GROUPS):
            raise ValueError(f"groups must give a weight to each of {', '.join(GROUPS)}")
        if sum(self.groups.values()) <= 0:
            raise ValueError("groups: at least one weight must be above 0")
        for group in GROUPS:
            if sum(self.metrics[m].weight for m in METRICS if METRIC_GROUPS[m] == group) <= 0:
                raise ValueError(f"metrics: the weights of group {group} must not all be 0")
        has_window, margin = self.lifecycle.window_days is not None, self.hysteresis.silence_risk_margin
        if has_window and margin is None:
            raise ValueError("hysteresis: lifecycle.window_days needs silence_risk_margin")
        if not has_window and margin is not None:
            raise ValueError("hysteresis: silence_risk_margin needs lifecycle.window_days")
        if "merge" in self.engagement.kinds:
            raise ValueError("engagement.kinds: merge is reserved")
        if self.base_currency in self.rates and self.rates[self.base_currency] != 1:
            raise ValueError(f"rates.{self.base_currency}: the base currency's own rate is 1")
        return self

    @cached_property
    def rate_by_currency(self) -> dict[str, Fraction]:
        """Base units per unit of each currency, exact."""
        rates = {currency: Fraction(rate) for currency, rate in self.rates.items()}
        return {**rates, self.base_currency: BASE_RATE}

    @cached_property
    def largest_micros_by_currency(self) -> dict[str, int]:
        """The largest amount of each currency that a record may hold, which is one that a state can hold too."""
        return {
            currency: min(largest_convertible_micros(MAX_AMOUNT_MICROS, rate), MAX_STORED)
            for currency, rate in self.rate_by_currency.items()
        }

    @cached_property
    def minor_unit_digits(self) -> int:
        """Decimals that output in the base currency is rounded to."""
        return minor_unit_digits(self.base_currency)

    @cached_property
    def cost_ratio_fraction(self) -> Fraction:
        """`cost_ratio`, exact."""
        return Fraction(self.cost_ratio)

    @cached_property
    def cost_per_refund_micros(self) -> int:
        """`cost_per_refund` in micro-units of the base currency."""
        return round(self.cost_per_refund * MICROS_PER_UNIT)

    @cached_property
    def scored_kinds(self) -> dict[str, float]:
        """Engagement kinds of positive weight."""
        return {kind: part.weight for kind, part in self.engagement.kinds.items() if part.weight > 0}

    @cached_property
    def group_weights(self) -> dict[str, npt.NDArray[np.float64]]:
        """Per group, the share of each metric (in the order of METRICS) in its score; each sums to 1."""
        weights = {}
        for group in GROUPS:
            row = np.array([self.metrics[m].weight if METRIC_GROUPS[m] == group else 0.0 for m in METRICS])
            weights[group] = row / row.sum()
        return weights

    @cached_property
    def value_weights(self) -> npt.NDArray[np.float64]:
        """The share of each metric (in the order of METRICS) in value; sums to 1."""
        total = sum(self.groups.values())
        shares = [weight / total * self.group_weights[group] for group, weight in self.groups.items()]
        return np.asarray(np.sum(shares, axis=0), dtype=np.float64)

    @property
    def lifecycle_margin(self) -> float:
        """By how much a limit of the lifecycle must be passed: of silence risk with `window_days`, else of churn."""
        margin = self.hysteresis.silence_risk_margin
        return self.hysteresis.churn_risk_margin if margin is None else margin

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything in the model that decides: two models with one fingerprint score alike."""
        exclude: dict[str, Any] = {"calibration": True, "tiers": {"capacities"}}
        # What a file does not name is left out, so that an older file keeps its fingerprint.
        if self.lifetime_value.discount_rate_per_year == 0.0:
            exclude["lifetime_value"] = {"discount_rate_per_year"}
        if self.tiers.by == "value":
            exclude["tiers"] |= {"by", "breakpoints", "by_expected_margin"}
        if self.lifecycle.window_days is None:
            exclude["lifecycle"] = {"window_days", "at_risk_silence_risk", "lapsed_silence_risk"}
        if self.reactivation.own_return is None:
            exclude["reactivation"] = {"own_return"}
        unnamed = {name for name, value in self.hysteresis.model_dump().items() if value is None}
        if unnamed:
            exclude["hysteresis"] = unnamed
        told = self.model_dump_json(exclude=exclude)
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    def is_channel(self, purpose: str) -> bool:
        """Whether a consent purpose names a way to reach the customer."""
        return purpose != "profiling" and purpose not in self.other_purposes

    def with_base_currency(self, currency: str) -> Model:
        """The same model in another base currency; refused where it holds rates: those are in base units."""
        if currency == self.base_currency:
            return self
        if any(other != self.base_currency for other in self.rates):
            raise ModelError(
                f"base currency {currency} does not fit model {self.name!r}: "
                f"its rates are in {self.base_currency}"
            )
        return _validated(
            {**self.model_dump(exclude_unset=True), "base_currency": currency, "rates": {}}, self.name
        )


def load_model(path: str | Path | None = None) -> Model:
    """Read a model file, or the built-in default; raises `ModelError` with the key at fault."""
    if path is None:
        text, source = (
            resources.files(__package__).joinpath("default_model.yaml").read_text("utf-8"),
            "default model",
        )
    else:
        source = str(path)
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"model {source}: cannot be read: {error}") from None
    return parse_model(text, source)


def parse_model(text: str, source: str) -> Model:
    """A model from YAML text; `source` names it in errors."""
    try:
        read = read_mapping(text)
    except YamlTextError as error:
        raise ModelError(f"model {source}: {error}") from None
    return _validated(read.values, source, read)


def _validated(document: dict[str, Any], source: str, read: Mapping | None = None) -> Model:
    try:
        return Model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = first["loc"]
        if first["type"] == _UNKNOWN_KEY:
            location = (*location, first["ctx"]["key"])
        where = ".".join(str(part) for part in location) or "(whole file)"
        line = None if read is None else read.line_of(location)
        at = "" if line is None else f"line {line}: "
        raise ModelError(f"model {source}: {at}{where}: {first['msg']}") from None
