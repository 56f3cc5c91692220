"""The roster as a porter gathers it: from every buck that answers, and from the verdicts of the archive.

Bucks tell whom they ever met, and hand over the signed retirements; a verdict keeps both, so that an hour is judged by
the same roster when the bucks are gone. Whom an earlier verdict expected is expected still. Where there is a list of
keys, a retirement counts only if that names its signer an admin, whoever brings it: a buck, or a verdict that anybody
may have laid into the archive, must not be able to excuse a host.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from porter.cluster import Cluster
from porter.document import UNREADABLE
from protocol.errors import FormatError
from protocol.messages import Roster, RosterIs
from protocol.roster import Expected, Retirement

if TYPE_CHECKING:
    from porter.catalog import PartName
    from protocol.trust import Trust

__all__ = ["Seen", "ask_roster", "look_at_verdicts"]


@dataclass
class Seen:
    """Whom anybody has met, and whom an admin took off the roster."""

    expected: dict[bytes, Expected] = field(default_factory=dict)
    retired: dict[bytes, Retirement] = field(default_factory=dict)  # by their signed form
    troubles: list[str] = field(default_factory=list)
    trust: Trust | None = None  # the list of keys, if there is one

    def add(self, source: str, env: str, expected: Iterable[Expected], retired: Iterable[bytes]) -> None:
        """Add what one source knows; a retirement that doesn't hold is a trouble, and ends nothing."""
        for one in expected:
            known = self.expected.get(one.tailer)
            if known is None or one.since < known.since:
                self.expected[one.tailer] = one
        for data in retired:
            try:
                found = Retirement.read(data)
            except FormatError as error:
                self.troubles.append(f"{source}: a retirement that doesn't hold: {error}")
                continue
            if found.env != env:
                continue
            if self.trust is not None and not self.trust.lists(found.public, "admin"):
                self.troubles.append(
                    f"{source}: a retirement of {found.node.hex()} counts for nothing: authorized_keys does not name "
                    f"its signer {found.public.hex()} with roles=admin"
                )
                continue
            self.retired[found.data] = found

    def add_verdict(self, name: str, env: str, text: bytes) -> None:
        """Add what a verdict of the archive says of its roster."""
        try:
            verdict = json.loads(text)
            rows, retired = _rows(verdict["roster"]), _texts(verdict["retired"])
        except UNREADABLE as error:
            self.troubles.append(f"{name}: its roster can't be read: {error!r}")
            return
        self.add(name, env, rows, retired)

    def join(self, other: Seen) -> None:
        """Add what another gathered, and believe what comes later by the same list."""
        self.trust = self.trust or other.trust
        self.add("", "", other.expected.values(), ())
        self.retired |= other.retired
        self.troubles += other.troubles

    def document(self) -> dict[str, object]:
        """What a verdict keeps of it."""
        rows = [
            {"tailer": one.tailer.hex(), "host": one.host.hex(), "since": one.since}
            for one in sorted(self.expected.values())
        ]
        return {"roster": rows, "retired": [base64.b85encode(data).decode() for data in sorted(self.retired)]}


def look_at_verdicts(verdicts: Iterable[tuple[PartName, bytes]], seen: Seen) -> None:
    """What the last verdict of each hour in the archive says of the roster."""
    for name, text in verdicts:
        seen.add_verdict(str(name), name.env, text)


async def ask_roster(cluster: Cluster) -> Seen:
    """What all bucks that answer know."""
    seen = Seen(trust=cluster.trust)
    for answer in await cluster.ask_all(Roster(0, True)):
        assert isinstance(answer.message, RosterIs)
        seen.add(str(answer.member), cluster.settings.env, answer.message.expected, answer.message.retired)
    return seen


def _rows(rows: object) -> Sequence[Expected]:
    if not isinstance(rows, list):
        raise TypeError("no list of tailers")
    return [Expected(bytes.fromhex(row["tailer"]), bytes.fromhex(row["host"]), int(row["since"])) for row in rows]


def _texts(texts: object) -> Sequence[bytes]:
    if not isinstance(texts, list):
        raise TypeError("no list of retirements")
    return [base64.b85decode(text) for text in texts]
