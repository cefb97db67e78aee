"""YAML files of settings and models: a mapping, with the line of each of its keys; no key may come twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str, ...]
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class YamlTextError(ValueError):
    """Text that cannot be used; the message names the line, and quotes nothing of it that may be a secret."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a file says, and in which line, counted from 1, each key and list entry stands."""

    values: dict[Any, Any]
    lines: dict[Path, int]

    def line_of(self, location: Sequence[str | int]) -> int | None:
        """The line of the innermost key on the way to a place; parts that no key is named by are passed over."""
        at: Path = ()
        for part in location:
            if (*at, str(part)) in self.lines:
                at = (*at, str(part))
        return self.lines.get(at)


def read_mapping(text: str, of: str = "keys to values") -> Mapping:
    """Read the text of a file, a mapping `of` something; one without anything in it is an empty one.

    Raises:
        YamlTextError: it is not YAML, not a mapping, or a key comes twice.
    """
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Mapping({}, {})
        lines = dict(_lines(node, (), set()))
        values = loader.construct_document(node)
    except YamlTextError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise YamlTextError(f"not YAML{where}; put text that holds : # @ * & ! or % into quotes") from None
    except yaml.YAMLError:
        raise YamlTextError("not YAML: it holds a character that YAML does not allow") from None
    except RecursionError:
        raise YamlTextError("nested too deeply") from None
    except ValueError:  # of a date such as 2025-13-45
        raise YamlTextError("holds a number or a date that there is not; put it into quotes") from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise YamlTextError(f"must be a mapping of {of}")
    return Mapping(values, lines)


def shown_key(key: object) -> str:
    """A key as it may be printed: one that no setting or model could have may be a password in the wrong place."""
    text = str(key)
    return text if _KEY.fullmatch(text) else "a key"


def _lines(node: yaml.Node, at: Path, seen: set[int]) -> Iterator[tuple[Path, int]]:
    """The line of everything below a node; what an alias names again is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield (*at, str(number)), entry.start_mark.line + 1
            yield from _lines(entry, (*at, str(number)), seen)
    if isinstance(node, yaml.MappingNode):
        first_lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if (first := first_lines.get((key.tag, key.value))) is not None:
                    raise YamlTextError(
                        f"line {line}: {shown_key(key.value)} comes twice, first in line {first}"
                    )
                first_lines[key.tag, key.value] = line
                yield (*at, key.value), line
                yield from _lines(value, (*at, key.value), seen)
