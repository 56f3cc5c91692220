"""`porter status`: the nodes, what they hold, how far behind the tailers are, how many copies there are, and verdicts.

Everything comes over the wire, from the bucks that answer, and from what they say of those that don't. Lag is the time
for which a tailer has stated nothing: a few minutes, the width of a bucket and a bit, is normal. Of one that stopped in
order, said goodbye or was retired that is said instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from porter.audit import Audit, Found, Tell, audit, look_at_bucks
from porter.cluster import Bucket, Cluster
from porter.member import Member
from porter.report import clock_text, lines_of, size_text, table
from porter.verdict import Account
from protocol.roster import EXPECTED

__all__ = ["Node", "Status", "status", "status_document", "status_tables"]


@dataclass(frozen=True)
class Node:
    """One buck: what it holds, and what it or the others say of it."""

    member: Member
    buckets: int = 0
    packets: int = 0
    size: int = 0
    last_arrival_ns: int = 0
    unsure: int = 0  # buckets that it does not vouch for


@dataclass(frozen=True)
class Status:
    """All of it, at one time."""

    env: str
    width: int
    time_s: int
    nodes: tuple[Node, ...]
    audit: Audit


async def status(cluster: Cluster, tell: Tell) -> Status:
    """Ask everybody."""
    holdings = await cluster.buckets_of_each()
    found = Found()
    await look_at_bucks(cluster, found, 0, 0, False, tell)
    judged = audit(cluster.settings.env, found)
    nodes = tuple(_node(member, holdings.get(member)) for member in cluster.members)
    return Status(cluster.settings.env, cluster.width, await cluster.time_s(), nodes, judged)


def _node(member: Member, buckets: Sequence[Bucket] | None) -> Node:
    if buckets is None:
        return Node(member)
    held = [one for one in buckets if one.held]  # without what was let go of
    return Node(
        member,
        buckets=len(held),
        packets=sum(one.packets for one in held),
        size=sum(one.size for one in held),
        last_arrival_ns=max((one.last_arrival_ns for one in held), default=0),
        unsure=sum(one.unsure for one in held),
    )


def status_document(now: Status) -> dict[str, object]:
    """As JSON: the audit's document, and the nodes."""
    return {**now.audit.document(), "time": now.time_s, "width": now.width, "nodes": [_as_json(n) for n in now.nodes]}


def _as_json(node: Node) -> dict[str, object]:
    member, peer = node.member, node.member.peer
    return {
        "node": member.node.hex(),
        "address": member.address,
        "host": member.host.decode("utf-8", "backslashreplace"),
        "zone": peer.zone if peer else "",
        "live": member.live,
        "trouble": member.trouble,
        "draining": bool(peer and peer.draining),
        "free": peer.free if peer else None,
        "archived_until": peer.archived if peer else None,
        "buckets": node.buckets,
        "packets": node.packets,
        "bytes": node.size,
        "last_arrival_ns": node.last_arrival_ns,
        "unsure": node.unsure,
    }


def status_tables(now: Status) -> None:
    """Print it for people."""
    columns = ("address", "host", "zone", "state", "buckets", "packets", "stored", "free", "last arrival", "A3 until")
    table(f"env {now.env}, buckets of {now.width} s", columns, map(_node_row, now.nodes))
    table("", ("host", "tailer", "verdict", "as of seal", "lag", "packets", "raw", "copies", "A3"), _tailer_rows(now))
    for line in lines_of(now.audit):
        print(line)


def _node_row(node: Node) -> Sequence[str]:
    member, peer = node.member, node.member.peer
    state = member.trouble or ("draining" if peer and peer.draining else "live")
    held = (str(node.buckets) + (f" ({node.unsure} unsure)" if node.unsure else ""), str(node.packets))
    sizes = (size_text(node.size), size_text(peer.free) if peer else "-")
    host = member.host.decode("utf-8", "backslashreplace")
    zone = peer.zone if peer else ""
    times = clock_text(node.last_arrival_ns // 10**9), clock_text(peer.archived if peer else 0)
    return (member.address, host, zone, state, *held, *sizes, *times)


def _lag(now: int, account: Account) -> str:
    if account.end != EXPECTED:
        return account.end
    if account.closed:
        return "stopped"
    return f"{max(0, now - account.until)} s" if account.until else "-"


def _tailer_rows(now: Status) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for account in now.audit.verdict.accounts:
        copies = now.audit.copies.get(account.tailer, {})
        rows.append(
            (
                account.host.decode("utf-8", "backslashreplace"),
                account.tailer.hex()[:12],
                account.state,
                str(account.seal) if account.seal >= 0 else "none",
                _lag(now.time_s, account),
                str(account.packets) + (f" +{account.unstated} unsealed" if account.unstated else ""),
                size_text(account.raw),
                ", ".join(f"{packets} x {count}" for count, packets in sorted(copies.items()) if packets) or "-",
                str(now.audit.archived.get(account.tailer, 0)),
            )
        )
    return rows
