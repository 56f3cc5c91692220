"""What a tailer says of itself over HTTP: /ruok for monitors, /status for people and scripts, /metrics for Prometheus.

Off unless `--http` says where. It only reads. How many packets are at which level (protocol/levels.py) is counted when
somebody asks.
"""

from collections.abc import Mapping
from typing import Any

from protocol.levels import Level
from protocol.limits import PACKET_RAW_MAX
from service.metrics import CONTENT_TYPE
from service.web import Response, Route, json_response
from tailer.journal import Journal
from tailer.members import Members
from tailer.send import A1_COPIES, Sender


def routes(journal: Journal, members: Members, sender: Sender) -> Mapping[str, Route]:
    """The pages. Makes the gauges, so once only."""
    metrics = journal.costs.metrics
    metrics.gauge("packets_a0", "Packets at A0: in the journal only.", lambda: levels(journal)[Level.A0])
    metrics.gauge("packets_a1", "Packets at A1: stored, not sealed by three yet.", lambda: levels(journal)[Level.A1])
    metrics.gauge("packets_a2", "Packets at A2 that the journal still has.", lambda: levels(journal)[Level.A2])
    metrics.gauge("journal_bytes", "Bytes in the journal.", lambda: journal.used)
    metrics.gauge("members", "Bucks that are waited for, dead or alive.", lambda: len(members.nodes))
    metrics.gauge("members_linked", "Bucks with a link.", lambda: len(members.linked()))

    def status() -> Response:
        return json_response(facts(journal, members, sender))

    def page() -> Response:
        return Response(metrics.page(), CONTENT_TYPE)

    return {"/ruok": lambda: Response(b"imok"), "/status": status, "/metrics": page}


def levels(journal: Journal) -> dict[Level, int]:
    """How many packets of the journal's index are at which level."""
    found = {Level.A0: len(journal.ledger.unplaced), Level.A1: 0, Level.A2: 0}
    for entry in journal.ledger.entries.values():
        if entry.done and entry.kind.resend:
            found[Level.A2] += 1
        elif entry.slot not in journal.ledger.unplaced:
            found[Level.A1] += 1
    return found


def troubles(journal: Journal, members: Members) -> list[str]:
    """What somebody should look at, in words; nothing if all is well."""
    found = []
    live, wanted = len(members.live()), min(A1_COPIES, members.count)
    if live < wanted:
        found.append(f"{live} of {len(members.nodes)} bucks take packets: what is read waits in the journal")
    if journal.room() < PACKET_RAW_MAX:  # a packet may not fit
        found.append(f"the journal is full, with {journal.used} bytes: reading waits")
    return found


def facts(journal: Journal, members: Members, sender: Sender) -> dict[str, Any]:
    """What /status shows."""
    wrong = troubles(journal, members)
    return {
        "health": "WARNING" if wrong else "OK",
        "troubles": wrong,
        "node": journal.node.hex(),
        "env": journal.env,
        "host": journal.host.decode("utf-8", "backslashreplace"),
        "width": journal.width,
        "level": sender.level_text(),
        "packets": {level.name: count for level, count in levels(journal).items()},
        "seal": journal.chain.head[0],
        "members": [
            {
                "node": buck.node.hex(),
                "address": buck.address,
                "zone": buck.zone,
                "linked": buck.asker is not None,
                "draining": buck.draining,
                "retired": buck.retired,
            }
            for buck in members.bucks.values()
        ],
        "counters": {**sender.counters, **members.counters, **journal.counters},
        "metrics": journal.costs.metrics.values(),
    }
