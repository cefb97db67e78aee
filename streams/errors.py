"""Errors meant for people: the command line prints their message and ends with their exit code."""

from __future__ import annotations

from typing import ClassVar


class EbbtideError(Exception):
    """Something failed that its user can do something about; the message is one clear line."""

    exit_code: ClassVar[int] = 1


class UsageError(EbbtideError):
    """A wrong setting or a wrong call; the message names the setting and says what is allowed."""

    exit_code: ClassVar[int] = 2


def one_line(error: BaseException | str) -> str:
    """An error's message with all white space folded, or its type's name where it has no message."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
