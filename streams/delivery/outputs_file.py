"""The file that says which outputs there are: where each sends to, for which purpose, and what may leave.

outputs:
  - name: cdp
    kind: segment
    url: https://api.segment.io/v1/batch
    secret_file: /run/secrets/segment-write-key
    purpose: marketing
    fields: [traits.recency_days, scores.value]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.profiles import DIMENSIONS, Dimension
from streams.errors import UsageError

Kind = Literal["segment", "webhook", "customerio", "braze"]
FIELDS: Final = ("scores", "previous_scores", "traits", "permissions", "reason", "model")
"""Beginnings of what an output may be allowed of a change, beside what every message has."""
_NAME: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"


class Output(BaseModel):
    """One output.

    Without a `purpose`, consent is not asked for; `consent: opt_out` takes silence for a yes, as for the sale of data
    under the CCPA. `fields` are paths into the change that may leave, such as `traits` or `traits.recency_days`.
    With `reactivations`, re-activations that fall due are told too, those of the control group excepted.
    `on_load: skip` tells nothing of a first load; `sync` tells memberships without events that would start a flow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=_NAME)]
    kind: Kind
    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    secret_file: str
    purpose: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    consent: Literal["opt_in", "opt_out"] = "opt_in"
    dimensions: Annotated[list[Dimension], Field(min_length=1)] = list(DIMENSIONS)
    fields: list[str] = []
    on_load: Literal["sync", "skip"] = "sync"
    reactivations: bool = False
    audience_prefix: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] = "ebbtide"
    attempts: Annotated[int, Field(ge=1, le=100)] = 10
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 10.0

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: list[str]) -> list[str]:
        for field in fields:
            if field.partition(".")[0] not in FIELDS:
                raise ValueError(f"{field}: begins with none of {', '.join(FIELDS)}")
        return fields

    def text(self) -> str:
        """The output in one line."""
        asked = "without asking for consent" if self.purpose is None else f"with consent to {self.purpose}"
        if self.purpose is not None and self.consent == "opt_out":
            asked = f"unless {self.purpose} is denied"
        leaves = f", with {', '.join(self.fields)}" if self.fields else ""
        return f"{self.name}: {', '.join(self.dimensions)} to {self.kind} at {self.url}, {asked}{leaves}"

    def secret(self) -> str:
        """The secret, read anew each time, so that it can be changed while the process runs.

        Raises:
            UsageError: The file cannot be read, or is empty.
        """
        try:
            secret = Path(self.secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"output {self.name}: secret_file {self.secret_file}: {error}") from error
        if not secret:
            raise UsageError(f"output {self.name}: secret_file {self.secret_file} is empty")
        return secret


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    outputs: Annotated[list[Output], Field(min_length=1)]


def load_outputs(path: Path) -> list[Output]:
    """The outputs of a file.

    Raises:
        UsageError: The file cannot be read, or something in it is not as it must be; the message names the field.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    try:
        outputs = _File.model_validate(document).outputs
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"{path}: {where}: {first['msg']}") from error
    names = [output.name for output in outputs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"{path}: outputs: two are named {twice}")
    return outputs
