"""What a buck says of itself over HTTP: /ruok for monitors, /status for people and scripts, /metrics for Prometheus."""

from collections.abc import Callable, Mapping
from typing import Any

from buck.counts import Counts
from buck.leaving import Leaving
from buck.members import Members
from buck.seals import SealStore
from buck.store import Store
from service.metrics import CONTENT_TYPE
from service.web import Response, Route, json_response

Identity = Callable[[], dict[str, Any]]


def routes(
    identity: Identity, store: Store, seals: SealStore, members: Members, leaving: Leaving, counts: Counts
) -> Mapping[str, Route]:
    """The pages. `identity` says who and since when."""

    def ruok() -> Response:
        if any(volume.healthy for volume in store.volumes):
            return Response(b"imok")
        return Response(b"all disks have failed\n", status=503)

    def status() -> Response:
        return json_response(identity() | {"leaving": leaving.facts()} | facts(store, seals, members, counts))

    def metrics() -> Response:
        return Response(counts.metrics.page(), CONTENT_TYPE)

    return {"/ruok": ruok, "/status": status, "/metrics": metrics}


def facts(store: Store, seals: SealStore, members: Members, counts: Counts) -> dict[str, Any]:
    """Disks, buckets, peers and counters."""
    parts = [part for volume in store.volumes for parts in volume.parts.values() for part in parts]
    opened = store.open_parts()
    return {
        "disks": [
            {
                "path": volume.root,
                "total": volume.room.space.total,
                "free": volume.room.space.free,
                "healthy": volume.healthy,
                "hung": volume.hands.hung,
                "error": volume.error,
            }
            for volume in store.volumes
        ],
        "buckets": {
            "open": len(opened),
            "closed": len(parts) - len(opened),
            "unsure": len({bucket for part in parts if store.is_unsure(bucket := part.bucket)}),
        },
        "packets": sum(part.packets for part in parts),
        "bytes": sum(part.size for part in parts),
        "unsynced": sum(part.size - part.synced for part in opened),
        "conflicts": int(counts.metrics.values().get("conflicts", 0)),
        "seals": seals.count(),
        "peers": [
            {
                "node": known.peer.node.hex(),
                "address": known.peer.address,
                "host": known.peer.host.decode("utf-8", "backslashreplace"),
                "zone": known.peer.zone,
                "free": known.peer.free,
                "confirmed": known.confirmed,
                "draining": known.peer.draining,
                "heard_s_ago": round(store.machine.now() - known.heard, 1) if known.heard else None,
            }
            for known in members.known.values()
        ],
        "counters": counts.metrics.values(),
    }
