"""Tokens for SASL OAUTHBEARER, from a function that a setting names.

It takes no arguments, and is called for each connection, in a thread; it may keep a token for as long as it is good. It
returns the token, or a pair of the token and its SASL extensions (a mapping of names to texts).
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from aiokafka.abc import AbstractTokenProvider as AiokafkaProvider
from aiokafka.errors import AuthenticationFailedError
from kafka.errors import SaslAuthenticationFailedError
from kafka.net.sasl.oauth import AbstractTokenProvider as KafkaPythonProvider

from streams.errors import UsageError, one_line

_SETTING: Final = "EBBTIDE_KAFKA_SASL_OAUTH_TOKEN_PROVIDER"


class Token(NamedTuple):
    """A token, and what goes beside it."""

    value: str
    extensions: Mapping[str, str]


class TokenSource:
    """The function that gives tokens, with the name that it has in the settings."""

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.name = name
        self._function = function

    def token(self) -> Token:
        """A token for one connection; raises what the function raises, and `TypeError` where it gives no token."""
        given = self._function()
        value, extensions = given if isinstance(given, tuple) and len(given) == 2 else (given, {})
        if not isinstance(value, str) or not value or not isinstance(extensions, Mapping):
            raise TypeError("gave neither a token nor a pair of a token and its extensions")
        return Token(value, extensions)

    def failure(self, error: Exception) -> str:
        """Why there is no token."""
        return f"{_SETTING}: {self.name}: {type(error).__name__}: {one_line(error)}"


def load_token_source(name: str) -> TokenSource:
    """The function at `package.module:callable`; raises `UsageError` where there is none."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module that is imported may raise anything
        raise UsageError(f"{_SETTING}: {name} cannot be imported: {one_line(error)}") from error
    if not callable(found):
        raise UsageError(f"{_SETTING}: {name} is no function")
    return TokenSource(name, found)


class AiokafkaTokens(AiokafkaProvider):  # type: ignore[misc]  # aiokafka carries no types
    """As aiokafka asks for them: the token first, and at once what goes beside it."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._extensions: Mapping[str, str] = {}

    async def token(self) -> str:
        """The token; raises an error of aiokafka's, which its clients expect."""
        try:
            token = await asyncio.to_thread(self._source.token)
        except Exception as error:
            raise AuthenticationFailedError(self._source.failure(error)) from error
        self._extensions = token.extensions
        return token.value

    def extensions(self) -> Mapping[str, str]:
        """Of the last token."""
        return self._extensions


class KafkaPythonTokens(KafkaPythonProvider):  # type: ignore[misc]  # kafka-python carries no types
    """As kafka-python asks for them: the token first, and at once what goes beside it."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._extensions: Mapping[str, str] = {}

    def token(self) -> str:
        """The token; raises an error of kafka-python's, which its clients expect."""
        try:
            token = self._source.token()
        except Exception as error:
            raise SaslAuthenticationFailedError(self._source.failure(error)) from error
        self._extensions = token.extensions
        return token.value

    def extensions(self) -> Mapping[str, str]:
        """Of the last token."""
        return self._extensions
