"""Text for a terminal or a pipe: what customers' data, Kafka or Redis put into it can only be read, not obeyed.

An id may hold any character: escape sequences that recolour, retitle or rewrite a terminal, line feeds that look like
further lines of ours, marks that turn the direction of what follows.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, Final

import click

_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of controls, invisible formats, lone surrogates, and separators of lines and paragraphs."""


def say(text: str, *, lines: bool = False, err: bool = False) -> None:
    """Print one line, or with `lines` several, with whatever is not meant to be seen made visible."""
    shown = "\n".join(map(visible, text.split("\n"))) if lines else visible(text)
    click.echo(shown, err=err)


def visible(text: str) -> str:
    """Text in one line, with control characters written as Python would write them."""
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_escaped(character) else character
        for character in text
    )


def visible_document(document: Any) -> Any:
    """A document for people: the same with all its strings visible, keys too."""
    if isinstance(document, str):
        return visible(document)
    if isinstance(document, dict):
        return {visible_document(key): visible_document(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [visible_document(value) for value in document]
    return document


def visible_json(text: str) -> str:
    """JSON that means the same, with control characters escaped as JSON has it; its lines stay lines."""
    if text.isprintable():
        return text
    return "".join(
        json.dumps(character)[1:-1] if character not in "\n\r\t" and _is_escaped(character) else character
        for character in text
    )


def _is_escaped(character: str) -> bool:
    return unicodedata.category(character) in _ESCAPED
