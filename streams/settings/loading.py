"""Reading the settings from EBBTIDE_* environment variables, a YAML file, or both; the environment wins.

The file's keys are the names of `Settings`; the environment's are the same in capitals after ``EBBTIDE_``. The file
is named by ``--config`` or ``EBBTIDE_CONFIG``. An empty variable counts as not set. A secret can be in a file of its
own: its name with ``_FILE`` (in the YAML file ``_file``) after it then says which.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from enrichment.yaml_text import YamlTextError, read_mapping, shown_key
from streams.errors import UsageError, one_line
from streams.settings.kafka_security import check_combination
from streams.settings.redis_url import RedisUrlError
from streams.settings.settings import FILE_SUFFIX, PREFIX, RENAMED, SECRETS, Settings, variable

log = logging.getLogger(__name__)

CONFIG_VARIABLE: Final = "EBBTIDE_CONFIG"
TEST_PREFIX: Final = "EBBTIDE_TEST_"
SECRET_FILE_VARIABLES: Final = tuple(f"{PREFIX}{name}{FILE_SUFFIX}".upper() for name in SECRETS)
_LONGEST_SHOWN_CHARACTERS: Final = 60


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings: `overrides` before the environment, the environment before the file.

    Args:
        config: a YAML file; None takes the one that `EBBTIDE_CONFIG` names, if any.
        overrides: values by field name.

    Raises:
        UsageError: a name that is no setting, or a value that is not allowed; the message says what is.
    """
    _refuse_unknown_variables(os.environ)
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    in_environment = {
        name[len(PREFIX) :].lower(): value for name, value in os.environ.items() if value and _is_ours(name)
    }
    document, lines = _read(path) if path is not None else ({}, {})
    by_old_name = _by_old_name(in_environment)
    in_environment = {**in_environment, **by_old_name}
    from_files = _secrets_in_files(document, path, in_environment)
    in_file = {
        name: value
        for name, value in document.items()
        if name in Settings.model_fields
        and name not in in_environment
        and f"{name}{FILE_SUFFIX}" not in in_environment
    }
    try:
        settings = Settings(**{**in_file, **from_files, **by_old_name, **overrides})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field, reason = str(first["loc"][0]), first.get("ctx", {}).get("error")
        if field in by_old_name and field not in overrides:
            source = variable(_old_name(field))
        elif field in overrides or field not in {**in_file, **from_files}:
            source = variable(field)
        elif field in from_files:
            source = from_files.named_by[field]
        else:
            source = f"{field} in {path}, line {lines[field]}"
        # Without the cause: its text holds the value.
        raise UsageError(f"{source}: {_must_be(field, first['input'], reason)}") from None
    check_combination(settings)
    return settings


def _by_old_name(in_environment: Mapping[str, str]) -> dict[str, str]:
    """Values of variables that are called otherwise now, by the new name."""
    found = {}
    for old, new in RENAMED.items():
        if old in in_environment:
            if new in in_environment:
                raise UsageError(f"{variable(old)} and {variable(new)}: only one of the two may be set")
            log.warning("%s is called %s now: the old name will go", variable(old), variable(new))
            found[new] = in_environment[old]
    return found


def _old_name(field: str) -> str:
    return next(old for old, new in RENAMED.items() if new == field)


class _FromFiles(dict[str, str]):
    """Secrets by field name; `named_by` tells the setting that names the file of each."""

    def __init__(self) -> None:
        super().__init__()
        self.named_by: dict[str, str] = {}


def _secrets_in_files(
    document: Mapping[str, Any], path: Path | None, in_environment: Mapping[str, str]
) -> _FromFiles:
    """The secrets that a variable or the settings file names a file for; the environment wins."""
    found = _FromFiles()
    for field in SECRETS:
        name = f"{field}{FILE_SUFFIX}"
        if name in in_environment:
            if field in in_environment:
                raise UsageError(f"{variable(field)} and {variable(name)}: only one of the two may be set")
            source, given = variable(name), in_environment[name]
        elif name in document and field not in in_environment:
            if field in document:
                raise UsageError(f"{field} and {name} in {path}: only one of the two may be set")
            source, given = f"{name} in {path}", str(document[name])
        else:
            continue
        found[field], found.named_by[field] = _read_secret(source, Path(given)), source
    return found


def _read_secret(source: str, path: Path) -> str:
    """A file's text without the end of its last line. The path is not shown: it may be the secret itself."""
    try:
        secret = path.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UsageError(f"{source}: the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{source}: the file is not UTF-8") from None
    if not secret:
        raise UsageError(f"{source}: the file is empty")
    return secret


def _refuse_unknown_variables(environment: Mapping[str, str]) -> None:
    known = [CONFIG_VARIABLE, *map(variable, _names())]
    for name in sorted(environment):
        if _is_ours(name) and name.upper() not in known and not name.upper().startswith(TEST_PREFIX):
            raise UsageError(f"{name}: no such setting; {_nearest(name.upper(), known)}")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """What a settings file says, and in which line each setting stands."""
    try:
        read = read_mapping(path.read_text("utf-8"), "settings to values")
    except OSError as error:
        raise UsageError(f"settings file {path}: cannot be read: {one_line(str(error.strerror))}") from None
    except UnicodeDecodeError:
        raise UsageError(f"settings file {path}: cannot be read: it is not UTF-8") from None
    except YamlTextError as error:
        raise UsageError(f"settings file {path}: {one_line(error)}") from None
    lines = {str(name): read.line_of([str(name)]) or 1 for name in read.values}
    for name in read.values:
        if name not in _names():
            hint = _nearest(str(name), _names())
            raise UsageError(f"{shown_key(name)} in {path}, line {lines[str(name)]}: no such setting; {hint}")
    values = dict(read.values)
    for old, new in RENAMED.items():
        if old in values:
            if new in values:
                raise UsageError(f"{old} and {new} in {path}: only one of the two may be set")
            log.warning("%s in %s is called %s now: the old name will go", old, path, new)
            values[new], lines[new] = values.pop(old), lines[old]
    return values, lines


def _names() -> list[str]:
    """Every name that a settings file may hold."""
    return [*Settings.model_fields, *RENAMED, *(f"{field}{FILE_SUFFIX}" for field in SECRETS)]


def _must_be(field: str, given: object, reason: object) -> str:
    if isinstance(reason, RedisUrlError):
        return str(reason)
    sentence = f"must be {Settings.model_fields[field].description}"
    shown = repr(given)
    if field in SECRETS or "@" in shown:  # before an @ may be a password
        return sentence
    return f"{sentence}, not {shown if len(shown) <= _LONGEST_SHOWN_CHARACTERS else shown[:57] + '...'}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else f"allowed are {', '.join(sorted(names))}"


def _is_ours(variable: str) -> bool:
    return variable.upper().startswith(PREFIX)
