"""Every setting there is: its name, its type, what it may be, and its default."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streams.errors import UsageError, one_line
from streams.settings.redis_url import check_redis_url, shown_redis_url

if TYPE_CHECKING:
    from enrichment.customer.validation import Horizons
    from enrichment.model import Model
    from streams.settings.erasure_keys import ErasureKeys

PREFIX: Final = "EBBTIDE_"
DEFAULT_ERASURE_KEY: Final = "ebbtide-development-erasure-key"
"""Known to everyone: it keeps no erased id secret, so no worker runs with it."""

_BROKERS: Final = re.compile(r"(?:\[[0-9a-fA-F:.%]+\]|[^\s,:/\[\]]+):[0-9]{1,5}")
_NAME: Final = r"^[A-Za-z0-9._-]+$"
_CALLABLE: Final = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
_SWITCHES: Final = {"allow_create_time", "restore_from_short_log"}
SECRETS: Final = (
    "redis_url",
    "erasure_key",
    "earlier_erasure_keys",
    "kafka_sasl_password",
    "kafka_ssl_key_password",
)
"""Settings whose values are never shown, and which can be in a file of their own."""
RENAMED: Final = {
    "step_max_customers": "batch_max_customers",
    "step_max_bytes": "batch_max_bytes",
    "rebuild_from_short_log": "restore_from_short_log",
}
"""Names of version 0.1 and what they are now. The old ones are read for one version more, with a warning."""
FILE_SUFFIX: Final = "_file"
SHORTEST_KEY_CHARACTERS: Final = 16


def _setting(default: Any, allowed: str, **constraints: Any) -> Any:
    """A field; `allowed` completes the sentence "must be ..." in errors."""
    return Field(default, description=allowed, validate_default=False, **constraints)


class Settings(BaseSettings):
    """Settings of one worker or command; immutable. `load_settings` makes it, with errors for people."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, protected_namespaces=()
    )

    kafka_bootstrap_servers: str = _setting(
        "127.0.0.1:9092", "one or more host:port, separated by commas, such as kafka1:9092,kafka2:9092"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = _setting(
        "PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = _setting(
        None, "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
    )
    kafka_sasl_username: str | None = _setting(None, "a user name of Kafka's", min_length=1)
    kafka_sasl_password: SecretStr | None = _setting(None, "the password of that user, as text", min_length=1)
    kafka_sasl_oauth_token_provider: str | None = _setting(
        None, "package.module:callable, such as streams.msk_iam:token", pattern=_CALLABLE
    )
    kafka_ssl_ca_location: Path | None = _setting(
        None, "the path of a file of CA certificates (PEM); none for those that the system trusts"
    )
    kafka_ssl_certificate_location: Path | None = _setting(
        None, "the path of a file with the client's certificate and those that lead to its CA (PEM)"
    )
    kafka_ssl_key_location: Path | None = _setting(
        None, "the path of a file with the private key (PEM); none where the certificate's file holds it"
    )
    kafka_ssl_key_password: SecretStr | None = _setting(None, "the password of the private key", min_length=1)
    kafka_ssl_endpoint_identification_algorithm: Literal["https", "none"] = _setting(
        "https", "https or none (none takes a broker's certificate whatever host it is made out to)"
    )
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "a URL such as redis://host:6379/0, rediss://... or unix:///path",
        repr=False,
    )
    model: Path | None = _setting(None, "the path of a model file (YAML); none for the built-in model")
    processing_guarantee: Literal["exactly_once", "at_least_once"] = _setting(
        "exactly_once", "exactly_once or at_least_once"
    )
    clock: Literal["wall", "event"] = _setting("wall", "wall or event")
    topic_prefix: str = _setting(
        "", "up to 200 of the characters A-Z a-z 0-9 . _ -", pattern=r"^[A-Za-z0-9._-]*$", max_length=200
    )
    group_id: str = _setting(
        "ebbtide", "1 to 200 of the characters A-Z a-z 0-9 . _ -", pattern=_NAME, max_length=200
    )
    namespace: str | None = _setting(
        None, "1 to 200 of the characters A-Z a-z 0-9 . _ -", pattern=_NAME, max_length=200
    )
    core: Literal["auto", "compiled", "python"] = _setting("auto", "auto, compiled or python")
    base_currency: str | None = _setting(
        None, "three capital letters (ISO 4217), such as EUR", pattern=r"^[A-Z]{3}$"
    )
    erasure_key: SecretStr = _setting(
        SecretStr(DEFAULT_ERASURE_KEY),
        "a secret of at least 16 characters",
        min_length=SHORTEST_KEY_CHARACTERS,
    )
    earlier_erasure_keys: Annotated[tuple[SecretStr, ...], NoDecode] = _setting(
        (), "a JSON list of secrets of at least 16 characters each, or one secret a line"
    )
    purchases_horizon_days: int = _setting(400, "a whole number of days from 1 to 400", ge=1, le=400)
    engagements_horizon_days: int = _setting(30, "a whole number of days from 1 to 400", ge=1, le=400)
    max_clock_skew_s: float = _setting(
        30.0, "a number of seconds above 0, at most 3600", gt=0, le=3600, allow_inf_nan=False
    )
    batch_max_records: int = _setting(10_000, "a whole number from 1 to 1000000", ge=1, le=1_000_000)
    batch_max_customers: int = _setting(2_000, "a whole number from 1 to 2000", ge=1, le=2_000)
    batch_max_bytes: int = _setting(
        4 * 1024 * 1024, "a whole number of bytes from 1024 to 4194304 (4 MiB)", ge=1024, le=4 * 1024 * 1024
    )
    decompressed_max_bytes: int = _setting(
        64 * 1024 * 1024,
        "a whole number of bytes from 1048576 (1 MiB) to 1073741824 (1 GiB)",
        ge=1024 * 1024,
        le=1024 * 1024 * 1024,
    )
    cache_customers: int = _setting(25_000, "a whole number, 0 or above", ge=0)
    session_timeout_s: float = _setting(
        10.0, "a number of seconds from 1 to 300", ge=1, le=300, allow_inf_nan=False
    )
    publish_timeout_s: float = _setting(
        10.0, "a number of seconds above 0, at most 3600", gt=0, le=3600, allow_inf_nan=False
    )
    restore_from_short_log: bool = _setting(
        False, "true or false (true restores Redis although the inputs' oldest records are gone)"
    )
    allow_create_time: bool = _setting(
        False,
        "true or false (true takes input topics whose message.timestamp.type is CreateTime)",
    )
    open_transaction_wait_h: float | None = _setting(
        None, "a number of hours above 0; none for without limit", gt=0, allow_inf_nan=False
    )
    web_bind: str = _setting(
        "127.0.0.1", "an address to listen on, such as 127.0.0.1 or 0.0.0.0", min_length=1
    )
    web_port: int = _setting(6066, "a whole number from 1 to 65535", ge=1, le=65535)
    faust_data_dir: Path | None = _setting(None, "the path of a folder; none for a temporary one")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: Any) -> object:
        """YAML's `no` and `true` are not 0 and 1."""
        if isinstance(value, bool) and info.field_name not in _SWITCHES:
            raise ValueError("is true or false")
        return value

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        """As librdkafka takes them, which many settings come from."""
        return value.upper() if isinstance(value, str) else value

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        addresses = [address.strip() for address in value.split(",")]
        if not all(_BROKERS.fullmatch(address) for address in addresses):
            raise ValueError("not host:port")
        if any(not 1 <= int(address.rpartition(":")[2]) <= 65535 for address in addresses):
            raise ValueError("no such port")
        return ",".join(addresses)

    @field_validator("redis_url")
    @classmethod
    def _url(cls, value: str) -> str:
        check_redis_url(value)
        return value

    @field_validator("earlier_erasure_keys", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            value = json.loads(value) if value.lstrip().startswith("[") else value.splitlines()
            value = [key for key in value if key]
        return value

    @field_validator("earlier_erasure_keys")
    @classmethod
    def _long_enough(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(key.get_secret_value()) < SHORTEST_KEY_CHARACTERS for key in value):
            raise ValueError("too short")
        return value

    @property
    def joined(self) -> str:
        """Topic prefix and group as one name, which no other prefix and group have.

        A colon is in neither. Without a prefix it is the group's name alone, as it always was.
        """
        return f"{self.topic_prefix}:{self.group_id}" if self.topic_prefix else self.group_id

    @property
    def joined_by_0_1(self) -> str:
        """The same as Ebbtide 0.1 joined them: prefix `eu-` with group `x` was group `eu-x` without a prefix."""
        return f"{self.topic_prefix}{self.group_id}"

    @property
    def change_namespace(self) -> str:
        """What keeps the `change_id`s apart from those of any other group, where the group is new.

        One that Ebbtide 0.1 began keeps its own: `streams/state/partition_facts.py`.
        """
        return self.namespace or self.joined

    @property
    def redis_address(self) -> str:
        """`redis_url` without user, password and parameters, to be shown to people."""
        return shown_redis_url(self.redis_url)

    @property
    def erasure_keys(self) -> ErasureKeys:
        """The key under which erased customers are remembered, and the earlier ones."""
        from streams.settings.erasure_keys import ErasureKeys

        newest, *earlier = (
            key.get_secret_value().encode() for key in (self.erasure_key, *self.earlier_erasure_keys)
        )
        return ErasureKeys(newest, tuple(earlier))

    @property
    def horizons(self) -> Horizons:
        """For how many days a late record is still taken."""
        from enrichment.customer.validation import Horizons

        return Horizons(self.purchases_horizon_days, self.engagements_horizon_days)

    @property
    def has_default_erasure_key(self) -> bool:
        """Whether erased ids are hidden by a key that is in the source code."""
        return self.erasure_key.get_secret_value() == DEFAULT_ERASURE_KEY

    def topic(self, name: str) -> str:
        """The full name of a topic on the broker."""
        return f"{self.topic_prefix}{name}"

    def load_model(self, named_by: str = f"{PREFIX}MODEL") -> Model:
        """The model that `model` names, or the built-in one, in `base_currency`, if that is set.

        `named_by` is the setting or option that errors name.

        Raises:
            UsageError: the file cannot be used, or a base currency is set and the model holds rates.
        """
        from enrichment.model import ModelError, load_model

        try:
            model = load_model(self.model)
            if self.base_currency is None:
                return model
            if model.rates:
                raise UsageError(
                    f"{PREFIX}BASE_CURRENCY: must not be set with a model that holds rates: those of "
                    f"{model.name!r} are in {model.base_currency}, its base currency"
                )
            return model.with_base_currency(self.base_currency)
        except ModelError as error:
            raise UsageError(f"{named_by}: {one_line(error)}") from error

    def as_environment(self) -> dict[str, str]:
        """Environment variables that make these settings again in another process; secrets included."""
        values = {}
        for name in Settings.model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif isinstance(value, tuple):
                value = json.dumps([key.get_secret_value() for key in value]) if value else None
            if value is not None and value != "":
                values[f"{PREFIX}{name.upper()}"] = str(value)
        return values


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"
