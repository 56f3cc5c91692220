"""`porter retire NODE`: a node is gone for good, and nobody is to wait for it any more.

NODE is a node id (32 hex digits), or the name of a host that only one node has. A tailer's entry on the roster ends
where its last seal does: the window that begins there stays unknown. A buck is no member from then on: its copies don't
count, and nobody asks it. The word is signed with this porter's key, which must be an admin's, and given to every buck
that answers; they tell the others. It can be given twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from porter.cluster import Cluster
from porter.member import Member
from porter.roster import ask_roster
from protocol.messages import Ok, RetirePut
from protocol.roster import Retirement
from protocol.seal import Seal, chain

__all__ = ["Candidate", "RetireError", "Retired", "choose", "retire"]


class RetireError(Exception):
    """No such node, several of them, or one that lives: one line, exit code 1."""


class Candidate(NamedTuple):
    """A node that could be meant. `until` is the end of its last seal; of a buck nothing is sealed."""

    node: bytes
    role: str
    host: bytes
    seals: int
    until: int
    live: bool = False

    def __str__(self) -> str:
        return f"{self.role} {self.node.hex()} on {self.host.decode('utf-8', 'backslashreplace')}"


@dataclass(frozen=True)
class Retired:
    """What was signed, and which members have it on their disks."""

    retirement: Retirement
    took: tuple[Member, ...]
    missed: tuple[Member, ...]


async def retire(cluster: Cluster, name: str) -> Retired:
    """Sign it, and bring it to the bucks. RetireError if it isn't clear who is meant, or no buck takes it."""
    who = choose(await _candidates(cluster), name)
    if who.role == "buck" and who.live:
        raise RetireError(f"{who} answers: drain it first (buck drain), and stop it")
    facts = who.host, cluster.key.public, await cluster.time_s() * 10**9, who.seals, who.until
    retirement = Retirement(cluster.settings.env, who.node, who.role, *facts).signed(cluster.key)
    gone = [member for member in cluster.silent if member.node == who.node]
    took = [member for member in cluster.live if await _took(cluster, member, retirement)]
    missed = [member for member in cluster.members if member not in took and member not in gone]
    if not took:
        raise RetireError("; ".join(f"{member}: {member.trouble}" for member in missed))
    return Retired(retirement, tuple(took), tuple(missed))


def choose(candidates: Iterable[Candidate], name: str) -> Candidate:
    """The one that a name means."""
    fitting = [
        one
        for one in candidates
        if name.lower() == one.node.hex() or name.encode("utf-8", "surrogateescape") == one.host
    ]
    if not fitting:
        raise RetireError(f"no node is called {name!r}: give a node id or a host's name, as porter status shows them")
    if len(fitting) > 1:
        raise RetireError(f"{name!r} may be {' or '.join(map(str, fitting))}: give the node id")
    return fitting[0]


async def _candidates(cluster: Cluster) -> list[Candidate]:
    seals: dict[bytes, list[Seal]] = {}
    for seal in (await cluster.seals()).seals:
        seals.setdefault(seal.tailer, []).append(seal)
    seen = await ask_roster(cluster)
    gone = {one.node for one in seen.retired.values() if one.role == "buck"}
    found = {tailer: Candidate(tailer, "tailer", one.host, 0, one.since) for tailer, one in seen.expected.items()}
    for tailer, mine in seals.items():
        last = chain(mine).ordered[-1]
        found[tailer] = Candidate(tailer, "tailer", last.host, last.number + 1, last.until)
    for member in cluster.members:
        if member.node and member.node not in gone:
            found[member.node] = Candidate(member.node, "buck", member.host, 0, 0, member.live)
    return [found[node] for node in sorted(found)]


async def _took(cluster: Cluster, member: Member, retirement: Retirement) -> bool:
    answer = await cluster.ask(member, RetirePut(0, retirement.data))
    return answer is not None and isinstance(answer.message, Ok)
