"""How audits and states look: a table for people, JSON for machines. rich is loaded only when a table is wanted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from porter.audit import Audit
from porter.reader import numbers_text
from porter.retire import Retired
from porter.verdict import COMPLETE, Account
from service.run import DONE, SHORTFALL

if TYPE_CHECKING:
    from porter.archive import Archived
    from porter.prune import Let
    from porter.repair import Repaired

__all__ = ["archived", "audit_table", "clock_text", "json_line", "lines_of", "size_text", "table"]

COLOURS = {"complete": "green", "unknown": "yellow", "incomplete": "red", "conflicting": "magenta"}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to stdout; on a terminal with colours for states."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in columns:
        shown.add_column(name, justify="left", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(cell, COLOURS.get(cell, "")) for cell in row))
    Console(width=None if terminal else 200, soft_wrap=True).print(shown)


def json_line(document: object) -> None:
    """Print one JSON document."""
    print(json.dumps(document, sort_keys=True, ensure_ascii=False))


def archived(done: Sequence[Archived], troubles: Sequence[str], *, as_json: bool) -> int:
    """Print what became of each hour, and to stderr what could not be believed; the exit code of the job."""
    for line in troubles:
        print(line, file=sys.stderr)
    if as_json:
        for one in done:
            json_line({**one.__dict__, "part": str(one.part or ""), "quarantined": len(one.quarantined)})
    elif done:
        columns = ("hour", "part", "verdict", "packets", "rows", "raw", "stored", "missing", "quarantined", "clashes")
        table("", columns, map(_hour_row, done))
    else:
        print("nothing is old enough to be archived")
    return SHORTFALL if troubles or any(one.short or one.clashes for one in done) else DONE


def _hour_row(one: Archived) -> Sequence[str]:
    counts = (one.missing, len(one.quarantined), one.clashes)
    sizes = (size_text(one.raw), size_text(one.stored))
    part = str(one.part) if one.part else "-"
    return (clock_text(one.hour)[:13], part, one.state, str(one.packets), str(one.rows), *sizes, *map(str, counts))


def pruned(done: Sequence[Let], *, as_json: bool, dry_run: bool) -> int:
    """Print what the bucks have let go of, or would; the exit code of the job."""
    if as_json:
        for one in done:
            json_line(one.document())
    elif done:
        columns = ("hour", "verdict", "archived", "could go" if dry_run else "copies", "bytes", "files", "kept")
        table("", columns, map(_let_row, done))
        for line in dict.fromkeys(line for one in done for line in one.troubles):
            print(line)
    else:
        print("the bucks hold nothing that is old enough")
    return SHORTFALL if any(one.short for one in done) else DONE


def _let_row(one: Let) -> Sequence[str]:
    counts = str(one.named), str(one.packets), size_text(one.bytes), str(one.parts), str(one.kept)
    return clock_text(one.hour)[:13], one.verdict or "-", *counts


def retired(done: Retired, *, as_json: bool) -> int:
    """Print who was retired; the exit code of the job."""
    word = done.retirement
    host = word.host.decode("utf-8", "backslashreplace")
    if as_json:
        facts = {"node": word.node.hex(), "role": word.role, "host": host, "seals": word.seals, "until": word.until}
        json_line({**facts, "took": [str(one) for one in done.took], "missed": [str(one) for one in done.missed]})
    else:
        until = f", as of {clock_text(word.until)}" if word.until else ""
        print(f"{word.role} {word.node.hex()} on {host} is retired{until}: {len(done.took)} bucks have that on disk")
        for member in done.missed:
            print(f"not told: {member}: {member.trouble} (the others will tell it)")
    return SHORTFALL if done.missed else DONE


def repaired(done: Repaired, *, as_json: bool) -> int:
    """Print what a repair did; the exit code of the job."""
    if as_json:
        json_line(done.document())
    else:
        print(f"{done.below} packets were on too few bucks; {done.copied} copies were made; {done.left} are left")
        if done.settled:
            print(f"{done.settled} marks of bucks that were unsure are ended")
        if done.bad:
            print(f"{done.bad} copies were listed and could not be had: see bad_reads of the bucks")
        for line in done.troubles:
            print(line)
    return DONE if done.whole else SHORTFALL


def audit_table(found: Audit) -> None:
    """Print an audit: a line a tailer, then what is not as it should be."""
    columns = ("host", "tailer", "verdict", "as of seal", "stated until", "packets", "events", "raw", "copies")
    table("", columns, (_row(account, found) for account in found.verdict.accounts))
    for line in lines_of(found):
        print(line)
    seen = found.troubles or found.damage  # nothing is missing, but the exit code is not 0
    print("complete, but see above" if found.verdict.state == COMPLETE and seen else found.verdict.state)


def _row(account: Account, found: Audit) -> tuple[str, ...]:
    copies = found.copies.get(account.tailer, {})
    shown = ", ".join(f"{packets} x {count}" for count, packets in sorted(copies.items()) if packets)
    return (
        account.host.decode("utf-8", "backslashreplace"),
        account.tailer.hex()[:12],
        account.state,
        str(account.seal) if account.seal >= 0 else "none",
        clock_text(account.until),
        str(account.packets) + (f" +{account.unstated} unsealed" if account.unstated else ""),
        str(account.events),
        size_text(account.raw),
        shown or "-",
    )


def lines_of(found: Audit) -> list[str]:
    """What is wrong, a line each."""
    lines: list[str] = []
    for account in found.verdict.accounts:
        if account.state == COMPLETE:
            continue
        who = f"{account.host.decode('utf-8', 'backslashreplace')} ({account.tailer.hex()[:12]})".strip()
        lines += [f"{who}: conflict: {text}" for text in account.conflicts]
        for gap in account.gaps:
            allowed = " (its class allows that)" if gap.allowed else ""
            what = f"packets {numbers_text(gap.numbers)} of epoch {gap.epoch:x}, bucket {clock_text(gap.bucket)}"
            lines.append(f"{who}: incomplete: {what}: {gap.reason}{allowed}")
        if account.dropped:
            what = f"{account.dropped} events were dropped at the source"
            lines.append(f"{who}: incomplete: {what}{_allowed(account.dropped_allowed)}")
        if account.unread:
            what = f"{account.unread} bytes of files went before they were read"
            lines.append(f"{who}: incomplete: {what}{_allowed(account.unread_allowed)}")
        for one in account.unknown:
            since = f"from {clock_text(one.start)}" if one.start else ""
            until = f"to {clock_text(one.end)}" if one.end else ""
            lines.append(": ".join(filter(None, (who, "unknown", f"{since} {until}".strip(), one.reason))))
    return [*(damage.text() for damage in found.damage), *lines, *found.troubles, *found.notes]


def _allowed(count: int) -> str:
    return f" (their class allows that of {count})" if count else ""


def clock_text(second: int) -> str:
    """A time as people read it, UTC."""
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S}" if second else "-"


def size_text(size: int) -> str:
    """A size with three digits or so."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
