"""Input records as they are on the wire: what is valid, and for what is not, why.

The JSON Schemas are made from these models, and so is the reason of every dead letter. Each makes the event of
`schemas.events` that has the same name and attributes; the names on the wire are aliases. Types are strict,
unknown fields are ignored, and null stands for an optional field that is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from schemas import events
from schemas.amounts import AMOUNT_PATTERN, parse_amount
from schemas.events import (
    MAX_NAME_CHARACTERS,
    MAX_QUANTITY,
    OF_AN_ERASURE,
    RESERVED_CHANNELS,
    ConsentKind,
    PurchaseKind,
    Scalar,
)
from schemas.rejection import UNKNOWN_KIND, RefusedError, quoted
from schemas.timestamps import TIME_PATTERN, parse_timestamp
from schemas.topics import InputTopic


def _time_us(value: object) -> int:
    if type(value) is not str:
        raise RefusedError("a time is a string (RFC 3339 with an offset)")
    return parse_timestamp(value)


def _amount_micros(value: object) -> int:
    if type(value) is not str:
        raise RefusedError('an amount is a decimal string, such as "12.50", never a number')
    return parse_amount(value)


def _known_length_kind(value: str) -> str:
    if not 1 <= len(value) <= MAX_NAME_CHARACTERS:
        raise RefusedError(f"a kind has 1-{MAX_NAME_CHARACTERS} characters", reason=UNKNOWN_KIND)
    return value


@dataclass(frozen=True, slots=True)
class _OneOfKinds:
    """Says of a kind that is none of `kinds` which there are."""

    what: str
    kinds: tuple[str, ...]

    def __call__(self, value: object) -> object:
        if value in self.kinds:
            return value
        known = ", ".join(self.kinds)
        if type(value) is not str:
            raise RefusedError(f"a kind of {self.what} is one of: {known}")
        reserved = " (it is reserved)" if value == "merge" else ""
        raise RefusedError(f"{quoted(value)} is no kind of {self.what}{reserved}: {known}")


def _no_reserved_channel(value: str | None) -> str | None:
    if value in RESERVED_CHANNELS:
        raise RefusedError(
            f"a channel may not be named {quoted(value)}: counts keep this name for themselves"
        )
    return value


def _none_if_empty(value: str | None) -> str | None:
    return value or None


@dataclass(frozen=True, slots=True)
class _FlatObject:
    """A JSON object whose values have one of `types` exactly; null is the empty object."""

    types: frozenset[type]
    names: str
    json_types: tuple[str, ...]

    def validate(self, value: object) -> dict[str, Any]:
        if value is None:
            return {}
        if type(value) is not dict:
            raise RefusedError("this is a flat object")
        for name, member in value.items():
            if type(member) not in self.types:
                raise RefusedError(f"the values here are {self.names}", path=(name,))
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        types: Any = list(self.json_types) if len(self.json_types) > 1 else self.json_types[0]
        return {"type": ["object", "null"], "additionalProperties": {"type": types}}


@dataclass(frozen=True, slots=True)
class _NullMeans:
    """Null in the place of this field is `default`."""

    default: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        default = self.default
        return core_schema.no_info_before_validator_function(
            lambda value: default if value is None else value, handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "null"}]}


Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
TimeUs = Annotated[
    int,
    PlainValidator(_time_us),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
AmountMicros = Annotated[
    int, PlainValidator(_amount_micros), WithJsonSchema({"type": "string", "pattern": AMOUNT_PATTERN})
]
Currency = Annotated[str, Field(min_length=3, max_length=3, pattern=r"^[A-Z]{3}$")]
Name = Annotated[Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)] | None, AfterValidator(_none_if_empty)]
"""At most 128 characters; empty means absent."""
Channel = Annotated[
    Name,
    AfterValidator(_no_reserved_channel),
    Field(json_schema_extra={"not": {"enum": sorted(RESERVED_CHANNELS)}}),
]
"""A name that counts do not keep for themselves."""
Text = Annotated[str | None, AfterValidator(_none_if_empty)]
"""Of any length; empty means absent."""
Strings = Annotated[dict[str, str], _FlatObject(frozenset({str}), "strings", ("string",))]
Scalars = Annotated[
    dict[str, Scalar],
    _FlatObject(
        frozenset({str, bool, int, float}), "strings, numbers and booleans", ("string", "number", "boolean")
    ),
]


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _Record(_Wire):
    event_id: Annotated[Id, Field(description="Unique per customer within the topic.")]
    customer_id: Annotated[
        Id,
        Field(description="Equal to the record key (UTF-8). In business-to-business, the account."),
    ]
    occurred_at_us: Annotated[
        TimeUs,
        Field(
            alias="occurred_at",
            description="RFC 3339 with an offset; the UTC year is 1970-9999. "
            "Digits beyond microseconds are cut off.",
        ),
    ]
    attributes: Annotated[
        Strings,
        Field(
            default_factory=dict,
            description="What is known of the customer: `region`, `vertical`, `product_line`, "
            "`customer_type`, … The latest value of each is kept.",
        ),
    ]


class Item(_Wire):
    """A line of an order."""

    sku: Annotated[Text, Field(description="Stock-keeping unit.")] = None
    category: Annotated[Text, Field(description="What preferred categories are made of.")] = None
    quantity: Annotated[
        float,
        Field(ge=0, le=MAX_QUANTITY),
        _NullMeans(1.0),
        Field(description="Pieces, kilograms or whatever `unit_price` is the price of one of."),
    ] = 1.0
    unit_price_micros: Annotated[
        AmountMicros | None,
        Field(alias="unit_price", description="Price of one, in the record's currency."),
    ] = None


class Purchase(_Record):
    """An order, its update, a refund or a cancellation. Renewals of a subscription are orders."""

    kind: Annotated[
        PurchaseKind,
        BeforeValidator(_OneOfKinds("purchase", get_args(PurchaseKind))),
        Field(description="What happened. `merge` is reserved and refused."),
    ]
    order_id: Annotated[Id, Field(description="The order that all its records share.")]
    currency: Annotated[Currency, Field(description="ISO 4217 code of every amount in this record.")]
    total_micros: Annotated[
        AmountMicros,
        Field(
            alias="total",
            description="What the customer paid or got back, without tax and shipping, in `currency`: "
            "a decimal string, 0 or more.",
        ),
    ]
    cost_of_goods_micros: Annotated[
        AmountMicros | None,
        Field(
            alias="cost_of_goods",
            description="What the goods cost the business, in `currency`; else the model's ratio counts.",
        ),
    ] = None
    channel: Annotated[Channel, Field(description="Where it was bought.")] = None
    items: Annotated[
        tuple[Item, ...],
        Strict(False),
        FailFast(),
        _NullMeans(()),
        Field(description="The order's lines."),
    ] = ()

    def event(self) -> events.Purchase:
        """What the record says."""
        items = tuple(events.Item(**dict(item)) for item in self.items)
        return events.Purchase(**{**dict(self), "items": items})


class Engagement(_Record):
    """An open, click, read, visit, declared intent, or a touch that costs money."""

    kind: Annotated[
        str,
        AfterValidator(_known_length_kind),
        Field(
            description="One of the kinds that the model lists; by default `delivered`, `opened`, `clicked`, "
            "`read`, `visited`, `viewed`, `cart_updated`, `redeemed`, `declared`, `surveyed`, "
            "`support_contacted`, `acquired`.",
            json_schema_extra={"minLength": 1, "maxLength": MAX_NAME_CHARACTERS},
        ),
    ]
    channel: Annotated[
        Channel, Field(description="`email`, `sms`, `push`, `web`, `app`, `phone`, `post`, …")
    ] = None
    campaign_id: Annotated[Text, Field(description="The campaign that brought it about.")] = None
    automated: Annotated[
        bool,
        _NullMeans(False),
        Field(description="True for machine opens and prefetches, which are counted but never scored."),
    ] = False
    cost_micros: Annotated[
        AmountMicros | None,
        Field(alias="cost", description="What this touch cost the business, in `currency`."),
    ] = None
    currency: Annotated[
        Currency | None,
        Field(description="ISO 4217 code of `cost`, and required with it.", validate_default=True),
    ] = None
    score: Annotated[float | None, Field(description="The answer's score, for `surveyed`.")] = None
    declared: Annotated[
        Scalars,
        Field(
            default_factory=dict,
            description="What the customer declared: `company_size`, `budget`, `urgency`, `growth_plans`, "
            "`annual_value`, … The latest value of each is kept.",
        ),
    ]

    @field_validator("currency")
    @classmethod
    def _cost_needs_a_currency(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("cost_micros") is not None:
            raise RefusedError("a cost needs a currency")
        return value

    def event(self) -> events.Engagement:
        """What the record says."""
        return events.Engagement(**dict(self))


class Consent(_Record):
    """Consent given or withdrawn for one purpose, or the erasure of everything held."""

    kind: Annotated[
        ConsentKind,
        BeforeValidator(_OneOfKinds("consent", get_args(ConsentKind))),
        Field(description="What happened. `merge` is reserved and refused."),
    ]
    purpose: Annotated[
        Id | None,
        Field(
            validate_default=True,
            description="A channel (`email`, `sms`, `push`, `phone`, `post`, …) or `profiling`. "
            "Required for `consent`.",
        ),
    ] = None
    granted: Annotated[
        bool | None,
        Field(validate_default=True, description="True: given. False: withdrawn. Required for `consent`."),
    ] = None
    expires_at_us: Annotated[
        TimeUs | None,
        Field(
            alias="expires_at",
            description="RFC 3339 with an offset; the grant ends at the UTC midnight after it.",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _only_what_is_read_of_an_erasure(cls, data: Any) -> Any:
        if type(data) is dict and data.get("kind") == "erasure":
            return {name: data[name] for name in OF_AN_ERASURE if name in data}
        return data

    @field_validator("purpose", "granted")
    @classmethod
    def _consent_is_for_a_purpose(cls, value: str | bool | None, info: ValidationInfo) -> str | bool | None:
        if value is None and info.data.get("kind") == "consent":
            raise RefusedError("required where kind is consent")
        return value

    def event(self) -> events.Consent:
        """What the record says."""
        return events.Consent(**dict(self))


RECORD_TYPES: Final[Mapping[InputTopic, type[Purchase] | type[Engagement] | type[Consent]]] = {
    "purchases": Purchase,
    "engagements": Engagement,
    "consents": Consent,
}
"""The record of each input topic, by the topic's name without prefix."""
