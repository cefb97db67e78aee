"""What a command says at its end of the records that it refused: how many, why, and an example of each reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from streams.errors import EbbtideError

REASONS_TOLD: Final = 3


class Example(NamedTuple):
    """A refused record: where it was read, and what is wrong with it.

    `where` is a file, or a partition of Redis; `line` the line of the file, 0 where there is none.
    """

    where: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return f"{place}: {self.message}" if place else self.message


@dataclass(slots=True)
class Refusals:
    """Records that were refused, by reason, beside those that were not.

    `read` counts the records that were to be taken: not those after `--until`. Of each reason the example is the first
    one by file and line, so that it does not depend on who found it. `fail_over` is the share of refused records over
    which a command fails; None for no limit.
    """

    what: str = "records"
    fail_over: float | None = None
    read: int = 0
    accepted: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Example] = field(default_factory=dict)

    @property
    def refused(self) -> int:
        """How many were refused."""
        return self.by_reason.total()

    def add(self, reason: str, example: Example) -> None:
        """Count a refused record."""
        self.by_reason[reason] += 1
        known = self.examples.get(reason)
        if known is None or example[:2] < known[:2]:
            self.examples[reason] = example

    def check(self) -> None:
        """Raise where the command has failed by what was refused.

        Raises:
            EbbtideError: Records were refused and none accepted, or a larger share than `fail_over`.
        """
        if self.refused and not self.accepted:
            raise EbbtideError(f"no {self.what[:-1]} was accepted: {self.in_one_line()}")
        if self.fail_over is not None and self.refused > self.fail_over * self.read:
            share = f"{self.refused / self.read:.2%} of the {self.what}"
            limit = f"--fail-over-refused {self.fail_over:.6g} allows"
            raise EbbtideError(f"{share} were refused, more than {limit}: {self._reasons()}")

    def in_one_line(self, *, with_examples: bool = True) -> str:
        """How many were refused, and the commonest reasons, with an example each unless told otherwise."""
        reasons = self._reasons(with_examples=with_examples)
        return f"{self._in_all()}: {reasons}" if reasons else self._in_all()

    def text(self) -> str:
        """The same in a line for each reason."""
        told = [
            f"  {count:,} {reason}, such as {self.examples[reason]}" for reason, count in self._commonest()
        ]
        others = [f"  {line}" for line in self._others()]
        return "\n".join([self._in_all() + (":" if told else ""), *told, *others])

    def _reasons(self, *, with_examples: bool = True) -> str:
        told = [
            f"{count:,} {reason}" + (f" ({self.examples[reason]})" if with_examples else "")
            for reason, count in self._commonest()
        ]
        return ", ".join(told + self._others())

    def _in_all(self) -> str:
        return f"{self.refused:,} of {self.read:,} {self.what} were refused"

    def _commonest(self) -> list[tuple[str, int]]:
        """Of reasons that are as common, the first by name comes first."""
        ordered = sorted(self.by_reason.items(), key=lambda pair: (-pair[1], pair[0]))
        return ordered[:REASONS_TOLD]

    def _others(self) -> list[str]:
        rest = self.refused - sum(count for _, count in self._commonest())
        return [f"{rest:,} for other reasons"] if rest else []
