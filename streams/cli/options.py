"""What the commands' options have in common: types, those of every command, and what goes with them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from streams.console.terminal import say
from streams.extras import extra_of, missing

if TYPE_CHECKING:
    from enrichment.model import Model
    from streams.console.refusals import Refusals
    from streams.replay.reading import Tables
    from streams.settings import Settings

PROGRAM: Final = "ebbtide"
MAX_NAME_CHARACTERS: Final = 128
_CODE: Final = re.compile(r"[A-Z]{3}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECIMAL: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


@dataclass(slots=True)
class Options:
    """What holds for every command, wherever on the line it was given."""

    config: Path | None = None
    debug: bool = False

    def settings(self) -> Settings:
        """The settings of the environment and of `--config`."""
        from streams.settings import load_settings

        return load_settings(self.config)


class Time(click.ParamType):
    """A point in time as microseconds since the epoch; a date is its first instant, UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Microseconds of an RFC 3339 time or a date."""
        from schemas.rejection import RefusedError
        from schemas.timestamps import parse_timestamp

        if isinstance(value, int):
            return value
        try:
            return parse_timestamp(f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value)
        except RefusedError as error:
            hint = "; or a date, such as 2025-01-09" if "RFC 3339" in str(error) else ""
            self.fail(f"{value!r}: {error}{hint}", param, ctx)


class Tier(click.ParamType):
    """A tier and its room, such as `strategic=50` or `named=5%`."""

    name = "tier"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The tier and its room, checked."""
        from enrichment.tiers.capacity import CapacityError, capacity_of

        if isinstance(value, tuple):
            return value
        tier, _, room = value.partition("=")
        try:
            return capacity_of(tier.strip(), room.strip())
        except CapacityError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class Name(click.ParamType):
    """A name or a version of a model, as model files have them."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, if it is no longer than allowed."""
        text = str(value)
        if not 1 <= len(text) <= MAX_NAME_CHARACTERS:
            self.fail(f"1 to {MAX_NAME_CHARACTERS} characters are allowed, not {len(text):,}", param, ctx)
        return text


class Share(click.ParamType):
    """A share of a whole, such as `0.01` or `1%`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share as a number from 0 to 1."""
        text = str(value)
        number, is_percentage = text.removesuffix("%"), text.endswith("%")
        if not _DECIMAL.fullmatch(number):
            self.fail(f"{text!r}: a share is a number from 0 to 1, or a percentage, such as 1%", param, ctx)
        share = float(number) / (100 if is_percentage else 1)
        if share > 1:
            self.fail(f"{text!r}: a share is at most 1, or 100%", param, ctx)
        return share


class InputFile(click.ParamType):
    """A file, a pattern of files, or `-` for standard input."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Path]:
        """The files, those of a pattern in order."""
        from streams.errors import UsageError
        from streams.files.opening import expanded

        try:
            return value if isinstance(value, list) else expanded([str(value)])
        except UsageError as error:
            self.fail(str(error), param, ctx)


class ColumnName(click.ParamType):
    """Which column of a table is which field, such as `customer_id=CustomerNo`."""

    name = "column"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The field and the column."""
        if isinstance(value, tuple):
            return value
        field, _, column = str(value).partition("=")
        if not (field.strip() and column.strip()):
            self.fail(
                f"{value!r}: a column is named as FIELD=COLUMN, such as customer_id=CustomerNo", param, ctx
            )
        return field.strip(), column.strip()


class Currency(click.ParamType):
    """A currency by its code, such as EUR."""

    name = "currency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The code, in upper case."""
        code = str(value).upper()
        if not _CODE.fullmatch(code):
            self.fail(f"{value!r}: a currency is three letters (ISO 4217), such as EUR", param, ctx)
        return code


class Reason(click.ParamType):
    """A reason of dead letters, as docs/contract.md lists them."""

    name = "reason"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The reason, if it is one."""
        from schemas.rejection import REASONS

        return str(click.Choice(REASONS).convert(value, param, ctx))


class Place(click.ParamType):
    """Where a dead letter is: its partition and its offset in `dead-letters`."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Partition and offset."""
        if isinstance(value, tuple):
            return value
        partition, _, offset = value.partition(":")
        if not (_NUMBER.fullmatch(partition) and _NUMBER.fullmatch(offset)):
            self.fail(
                f"{value!r}: a place is PARTITION:OFFSET, such as 3:17, as `dlq list` prints it", param, ctx
            )
        return int(partition), int(offset)


def _set_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.ensure_object(Options).config = value


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Options).debug = True


def for_all(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command takes."""
    config = click.option(
        "--config",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        expose_value=False,
        callback=_set_config,
        help="Settings file (YAML); EBBTIDE_* variables win over it.",
    )
    debug = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show stack traces of errors."
    )
    return config(debug(click.help_option("-h", "--help")(_telling_missing_extras(command))))


def _telling_missing_extras(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the failed import of an optional package into wrong use that says which extra brings it."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except ImportError as error:
            extra = extra_of(error)
            if extra is None:
                raise
            raise missing(click.get_current_context().command_path, extra) from error

    return run


until_option = click.option(
    "--until", metavar="T", type=Time(), help="RFC 3339 time, or a date (its first instant, UTC)."
)

columns_option = click.option(
    "--columns",
    metavar="FIELD=COLUMN",
    type=ColumnName(),
    multiple=True,
    help="Of tables: the column of a field, where its name is none of the usual ones; may repeat.",
)

fail_over_option = click.option(
    "--fail-over-refused",
    "fail_over",
    metavar="SHARE",
    type=Share(),
    help="Exit code 1 where a larger share than this is refused, such as 0.01 or 1%.",
)


_LINES: Final = "JSON Lines, CSV, TSV or Parquet; a file, a pattern or -; may repeat."


def log_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--purchases`, `--engagements` and `--consents`, each of which may repeat: lists of files."""
    for name in ("consents", "engagements", "purchases"):
        option = click.option(f"--{name}", metavar="FILE", type=InputFile(), multiple=True, help=_LINES)
        command = option(command)
    return command


def all_of(files: Iterable[Sequence[Path]]) -> list[Path]:
    """Those of all the times that an option is given."""
    return [path for some in files for path in some]


def tables_of(columns: Iterable[tuple[str, str]], model: Model) -> Tables:
    """How tables are read; which columns were taken is told on stderr."""
    from streams.replay.reading import Tables

    return Tables(dict(columns), model.base_currency, lambda told: say(told, err=True))


def conclude(refusals: Refusals) -> None:
    """Say at a command's end what was refused; raises where the command has failed by it."""
    refusals.check()
    say(refusals.text(), lines=True, err=True)
