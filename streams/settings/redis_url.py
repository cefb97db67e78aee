"""The URL of Redis: what it may hold, and its form without secrets, to be shown to people.

A character that has a meaning in URLs ends a password early, and what comes after it is then shown as a host, a port or
a database. So a URL is taken whole or refused whole, before anything of it is parsed, and nothing of a refused one is
shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

_UNRESERVED: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"
_USER: Final = rf"(?:(?P<user>{_UNRESERVED}*(?::(?:{_UNRESERVED}|:)*)?)@)?"
_HOST: Final = r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
_PARAMETERS: Final = r"(?:\?(?P<parameters>[^#@?\s]*))?"
_TCP: Final = re.compile(rf"(?P<scheme>rediss?)://{_USER}{_HOST}(?:/(?P<database>[^#@?\s]*))?{_PARAMETERS}")
_UNIX: Final = re.compile(rf"(?P<scheme>unix)://{_USER}(?P<path>/[^#@?\s]+){_PARAMETERS}")
_WHAT_IT_MUST_BE: Final = "must be a URL such as redis://host:6379/0, rediss://... or unix:///path"
_ENCODED: Final = (
    f"{_WHAT_IT_MUST_BE}; in a user or a password, all but letters, digits and - . _ ~ must be percent-encoded: "
    "@ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25"
)


def _is_number(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,9}", value))


def _is_seconds(value: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value)) and float(value) > 0


def _is_switch(value: str) -> bool:
    return value.lower() in {"true", "false", "yes", "no", "1", "0"}


def _is_text(value: str) -> bool:
    return bool(value)


_NUMBER = _is_number, "a whole number, 0 or above"
_SECONDS = _is_seconds, "a number of seconds above 0"
_SWITCH = _is_switch, "true or false"
_TEXT = _is_text, "some text"
_FILE = _is_text, "the path of a file"

PARAMETERS: Final[dict[str, tuple[Callable[[str], bool], str]]] = {
    "db": _NUMBER,
    "username": _TEXT,
    "password": _TEXT,
    "client_name": _TEXT,
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _SWITCH,
    "retry_on_timeout": _SWITCH,
    "health_check_interval": _NUMBER,
    "max_connections": _NUMBER,
    "ssl_cert_reqs": (lambda value: value in {"none", "optional", "required"}, "none, optional or required"),
    "ssl_check_hostname": _SWITCH,
    "ssl_ca_certs": _FILE,
    "ssl_ca_path": (_is_text, "the path of a folder"),
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_password": _TEXT,
}
"""What may come after the `?`, each with whether a value is allowed, and what is."""
_SECRET_PARAMETERS: Final = {"password", "ssl_password"}


class RedisUrlError(ValueError):
    """A URL that is not taken; the message says what is allowed, and shows nothing of the URL."""


def check_redis_url(url: str) -> dict[str, str | None]:
    """The parts of the URL by name; raises `RedisUrlError` unless the client takes it as its author means it."""
    parts = _TCP.fullmatch(url) or _UNIX.fullmatch(url)
    if parts is None:
        raise RedisUrlError(_ENCODED if re.search(r"[@#%]", url) else _WHAT_IT_MUST_BE)
    said: dict[str, str | None] = parts.groupdict()
    port, database = said.get("port"), said.get("database")
    if port is not None and not 1 <= int(port) <= 65535:
        raise RedisUrlError(f"{_WHAT_IT_MUST_BE}: there is no such port")
    if database and not _is_number(database):
        raise RedisUrlError("the database in the URL, after the host, must be a whole number, such as /0")
    given = parse_qsl(said["parameters"] or "", keep_blank_values=True)
    names = [name for name, _ in given]
    for name, value in given:
        _check_parameter(name, value, names, str(said["scheme"]))
    if database and "db" in names:
        raise RedisUrlError("the database is given twice, in the path and as the parameter db")
    return said


def shown_redis_url(url: str) -> str:
    """The URL without user, password and parameters; nothing of one that `check_redis_url` refuses."""
    try:
        said = check_redis_url(url)
    except RedisUrlError:
        return "the address that is set"
    if said["scheme"] == "unix":
        return f"unix://{said['path']}"
    port = "" if said["port"] is None else f":{said['port']}"
    return f"{said['scheme']}://{said['host']}{port}" + (f"/{said['database']}" if said["database"] else "")


def _check_parameter(name: str, value: str, names: list[str], scheme: str) -> None:
    if name not in PARAMETERS:
        raise RedisUrlError(f"a parameter in the URL is not known; {_suggestion(name, names)}")
    if names.count(name) > 1:
        raise RedisUrlError(f"the parameter {name} is in the URL more than once")
    is_allowed, allowed = PARAMETERS[name]
    if not is_allowed(value):
        raise RedisUrlError(f"the parameter {name} in the URL must be {allowed}")
    if name.startswith("ssl_") and scheme != "rediss":
        raise RedisUrlError(f"the parameter {name} in the URL is for rediss:// only")


def _suggestion(name: str, names: list[str]) -> str:
    """What is allowed instead. The wrong name is not shown: it may be the rest of a password that holds an &."""
    near = difflib.get_close_matches(name, PARAMETERS, n=1, cutoff=0.75)
    if near and not _SECRET_PARAMETERS & set(names):
        return f"did you mean {near[0]}?"
    return f"allowed are {', '.join(sorted(PARAMETERS))} (an & in a value is written %26)"
