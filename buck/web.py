"""What a buck says over HTTP: /ruok for monitors, /status for people and scripts, /metrics for Prometheus, and /live.

`/live?q=QUERY` is a WebSocket. Each message is one JSON object: a stretch of a stream (tailer, host, path, stream,
first, end) with its events (offset, time, shn, app, line), or what was missed, or both. Whoever listens to several
bucks removes duplicates by (tailer, stream, offset), as `porter grep --live` does. It shows lines in clear text to who
proves nothing, so it is served on loopback alone, unless --insecure, and to no web page but those of --live-origin.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from buck.counts import Counts
from buck.errors import Declined
from buck.leaving import Leaving
from buck.live import Fanout, Viewer
from buck.members import Members
from buck.seals import SealStore
from buck.settings import BuckSettings
from buck.store import Store
from buck.volume import archived_until
from protocol.event import decode
from protocol.feed import LiveRows
from protocol.when import written
from service.authorized import is_here
from service.metrics import CONTENT_TYPE
from service.sockets import Feed, Next, Unfit
from service.web import Response, Route, json_response

# A disk that had no room for a packet is tried again after a rest, and again: until it isn't, it counts as full.
FULL_LATELY_S = 15.0

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


def health(store: Store) -> tuple[str, list[str]]:
    """OK, WARNING or CRITICAL, and in words what somebody should look at."""
    lately = store.machine.now() - FULL_LATELY_S
    failed = [volume for volume in store.volumes if not volume.healthy]
    full = [volume for volume in store.volumes if volume.healthy and volume.room.full(lately)]
    hung = [volume for volume in store.volumes if volume.healthy and volume.hands.hung]
    found = [f"the disk {volume.root} has failed: {volume.error}" for volume in failed]
    found += [f"the disk {volume.root} is full: it takes no packets" for volume in full]
    found += [f"the disk {volume.root} hangs" for volume in hung]
    if failed or len(full) == len(store.volumes):
        return "CRITICAL", found
    return ("WARNING" if found else "OK"), found


def facts(store: Store, seals: SealStore, members: Members, counts: Counts) -> dict[str, Any]:
    """Disks, buckets, peers and counters."""
    state, troubles = health(store)
    parts = [part for volume in store.volumes for parts in volume.parts.values() for part in parts]
    opened = store.open_parts()
    return {
        "health": state,
        "troubles": troubles,
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
            "archived": sum(len(volume.remnants) for volume in store.volumes),
            "archived_until": archived_until(store.volumes),
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
                "archived_until": known.peer.archived,
                "heard_s_ago": round(store.machine.now() - known.heard, 1) if known.heard else None,
            }
            for known in members.known.values()
        ],
        "counters": counts.metrics.values(),
    }


def feeds(settings: BuckSettings, fanout: Fanout) -> Mapping[str, Feed]:
    """The page that goes on."""

    @contextmanager
    def live(parameters: Mapping[str, str]) -> Iterator[Next]:
        if not (settings.insecure or is_here(settings.http)):
            raise Unfit(403, "lines are shown in clear text on loopback only; ask over the wire, or say --insecure")
        if set(parameters) - {"q"}:
            raise Unfit(400, "there is one parameter: q, the query")
        try:
            with fanout.viewing(parameters.get("q", "")) as viewer:
                yield lambda: _next_text(viewer)
        except Declined as no:
            raise Unfit(400 if no.reason == "query" else 503, no.text) from None

    return {"/live": Feed(live, settings.live_origin)}


async def _next_text(viewer: Viewer) -> str | None:
    """What to send next; what was missed comes before it."""
    taken = await viewer.take()
    if taken is None:
        return None
    missed, frame = taken
    if frame is None:
        return json.dumps({"missed": missed})
    frame.text = frame.text or json.dumps(_document(frame.rows), ensure_ascii=False)
    return f'{{"missed": {missed}, {frame.text[1:]}' if missed else frame.text


def _document(rows: LiveRows) -> dict[str, object]:
    events = [decode(row) for row in rows.rows]
    return {
        "tailer": rows.tailer.hex(),
        "host": _text(rows.host),
        "path": _text(rows.path),
        "stream": rows.stream.hex(),
        "first": rows.first,
        "end": rows.end,
        "events": [
            {
                "offset": rows.first + offset,
                "time": written(event.point),
                "shn": _text(event.shn),
                "app": _text(event.app),
                "line": _text(event.line),
            }
            for offset, event in zip(rows.offsets, events, strict=True)
        ],
    }


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
