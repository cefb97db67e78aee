"""Whether groups of customers fare alike: `ebbtide audit`, from profiles in a file or from Redis."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from enrichment.insight.fairness import audit
from streams.console.refusals import Refusals
from streams.console.tables import table_lines
from streams.console.terminal import visible, visible_document, visible_json
from streams.errors import EbbtideError, UsageError
from streams.insight.profile_lines import read_profiles
from streams.settings import Settings

MAX_ATTRIBUTES_NAMED = 20


class _Audited(NamedTuple):
    """The columns that the audit looks at, one element per customer with a standing, and who has none."""

    groups: list[str | None]
    tiers: list[str]
    segments: list[str]
    without_standing: int


def run_audit(
    settings: Settings, by: str, profiles: Path | None, as_json: bool, refusals: Refusals | None = None
) -> str:
    """The audit by an attribute, as text for people or as JSON, of the profiles in a file or else in Redis.

    Profiles that were refused are counted in `refusals`.

    Raises:
        UsageError: no customer has the attribute.
        EbbtideError: the file holds something else than profiles, or Redis does not answer or holds nothing; or more
            was refused than `refusals` allows.
        OSError: the file cannot be read.
    """
    refusals = refusals or Refusals("profiles")
    if profiles is not None:
        document = audit_of(profiles, by, refusals)
    else:
        from streams.insight.profiles import export_profiles

        with tempfile.TemporaryDirectory(prefix="ebbtide-audit-") as directory:
            held = Path(directory) / "profiles.jsonl"
            export_profiles(settings, held, None, refusals)
            document = audit_of(held, by)
    if as_json:
        return visible_json(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return audit_text(visible_document(document))


def audit_of(profiles: Path, by: str, refusals: Refusals | None = None) -> dict[str, Any]:
    """The audit as one document, of a file of profiles, one a line and one a customer."""
    found = _read(profiles, by.removeprefix("attributes."), refusals)
    if not found.tiers:
        told = f", only {found.without_standing:,} without a standing" if found.without_standing else ""
        raise EbbtideError(f"{profiles}: there is no profile with a standing to audit{told}")
    document = audit(by.removeprefix("attributes."), found.groups, found.tiers, found.segments)
    return {**document, "without_standing": found.without_standing}


def _read(path: Path, by: str, refusals: Refusals | None) -> _Audited:
    found = _Audited([], [], [], 0)
    without_standing, attributes = 0, set[str]()
    for profile in read_profiles(path, refusals):
        standing = profile["standing"]
        if standing["tier"] is None:
            without_standing += 1
            continue
        of_customer: dict[str, str] = profile["traits"]["attributes"] or {}
        attributes.update(of_customer)
        found.groups.append(of_customer.get(by))
        found.tiers.append(standing["tier"])
        found.segments.append(standing["segment"])
    if found.tiers and by not in attributes:
        raise UsageError(f"--by {by}: no customer has this attribute; {_there_are(attributes)}")
    return found._replace(without_standing=without_standing)


def _there_are(attributes: set[str]) -> str:
    if not attributes:
        return "there are no attributes at all"
    names = [visible(name) for name in sorted(attributes)]
    more = len(names) - MAX_ATTRIBUTES_NAMED
    return f"there are: {', '.join(names[:MAX_ATTRIBUTES_NAMED])}{f' and {more} more' if more > 0 else ''}"


def audit_text(document: dict[str, Any]) -> str:
    """Warnings first; then each favourable outcome by group, and the shares per tier and segment."""
    lines = [
        f"Customers by {document['by']}: {document['customers']:,} with a standing, in "
        f"{len(document['groups'])} groups; {document['without_standing']:,} without a standing are not looked at",
        "",
        *(f"warning: {warning}" for warning in document["warnings"]),
    ]
    if not document["warnings"]:
        lines.append(f"No group is below {document['rule']:g} times the share of the most favoured one.")
    for outcome in document["outcomes"]:
        lines += ["", *_outcome_table(outcome)]
    for dimension in ("tier", "segment"):
        lines += ["", *_share_table(dimension, document["groups"])]
    if any(group["small"] for group in document["groups"]):
        lines += ["", f"* fewer than {document['small_below']} customers: the share may well be chance."]
    return "\n".join(lines)


def _outcome_table(outcome: dict[str, Any]) -> list[str]:
    best = outcome["most_favoured"]
    rows = [("group", "customers", "favoured", "share", "95% interval", "ratio", "95% interval", "80% rule")]
    for row in outcome["groups"]:
        rows.append(
            (
                row["label"] + " *" * row["small"],
                f"{row['customers']:,}",
                f"{row['favoured']:,}",
                f"{row['share']:.1%}",
                f"{row['low']:.1%} – {row['high']:.1%}",
                *_ratio(row),
                row["verdict"] or "-",
            )
        )
    title = f"Favoured: {outcome['outcome']}; most favoured: {best if best is not None else 'nobody'}"
    other = outcome["most_favoured_not_small"]
    lines = [title, *table_lines(rows, indent=2)]
    if other is None:
        return lines
    compared = [("group", "ratio", "95% interval", "80% rule")]
    for row in outcome["groups"]:
        to_other = row["to_most_favoured_not_small"]
        compared.append((row["label"] + " *" * row["small"], *_ratio(to_other), to_other["verdict"] or "-"))
    return [
        *lines,
        f"  Against {other}, the most favoured group that is not small:",
        *table_lines(compared, indent=2),
    ]


def _ratio(row: dict[str, Any]) -> tuple[str, str]:
    if row["ratio"] is None:
        return "-", "-"
    if row["ratio_low"] is None:
        return f"{row['ratio']:.2f}", "-"
    high = "∞" if row["ratio_high"] is None else f"{row['ratio_high']:.2f}"
    return f"{row['ratio']:.2f}", f"{row['ratio_low']:.2f} – {high}"


def _share_table(dimension: str, groups: list[dict[str, Any]]) -> list[str]:
    names = [
        name for name in groups[0][dimension] if any(group[dimension][name]["customers"] for group in groups)
    ]
    rows = [("group", "customers", *names)]
    for group in groups:
        shares = (f"{group[dimension][name]['share']:.1%}" for name in names)
        rows.append((group["label"] + " *" * group["small"], f"{group['customers']:,}", *shares))
    return [f"Shares per {dimension}", *table_lines(rows, indent=2)]
