"""Everything a buck counts, in one place, so that the status page and the documents name the same things."""

from collections.abc import Callable

from service.costs import Costs
from service.metrics import Metrics


class Counts:
    """The cells. Those that should stay 0 are alarms: each comes with a line in the log."""

    def __init__(self, metrics: Metrics | None = None, cpu_s: Callable[[], float] = lambda: 0.0) -> None:
        self.metrics = metrics = metrics or Metrics("buck")
        self.costs = Costs(metrics, cpu_s)
        self.packets = metrics.counter("packets_stored", "Packets appended to a bucket file.")
        self.bytes = metrics.counter("bytes_stored", "Bytes of packets appended to bucket files.")
        self.repeats = metrics.counter("packets_repeated", "Packets that were here already: third copies, retries.")
        self.refused = metrics.counters("packets_refused", "Packets not taken, by reason.", "reason")
        self.sent = metrics.counter("packets_sent", "Packets read back and sent to who asked.")
        self.pulled = metrics.counter("packets_pulled", "Packets fetched from another buck: repair, or its leaving.")
        self.pulled_bytes = metrics.counter("bytes_pulled", "Bytes of packets fetched from another buck.")
        self.bad_pulls = metrics.counter("bad_pulls", "Alarm: packets of another buck that were no good; not kept.")
        self.handed = metrics.counter("packets_handed_on", "Packets that another buck fetched because this one leaves.")
        self.settled = metrics.counter(
            "buckets_settled", "Unsure buckets that were compared and are vouched for again."
        )
        self.syncs = metrics.counter("syncs", "Fsyncs of bucket files.")
        self.closed = metrics.counter("parts_closed", "Bucket files closed with a footer.")
        self.parts_pruned = metrics.counter(
            "parts_pruned", "Bucket files let go of, all of whose packets are archived."
        )
        self.packets_pruned = metrics.counter("packets_pruned", "Packets in them.")
        self.bytes_pruned = metrics.counter("bytes_pruned", "Bytes of these packets.")
        self.parts_kept = metrics.counter("parts_kept", "Bucket files that a porter wanted gone, and that were kept.")
        self.archived_until = metrics.gauge(
            "archived_until",
            "Second before which all that was here is in the archive, and gone from here; 0: none is.",
        )
        self.bad_remnants = metrics.counter("bad_remnants", "Alarm: what is left of archived packets can't be read.")
        self.seals = metrics.counter("seals_stored", "Seals written and fsynced.")
        self.roster_full = metrics.counter("roster_full", "Alarm: tailers that the roster had no place for.")
        self.no_admin = metrics.counter(
            "retirements_refused", "Alarm: retirements that a disk or another buck had and no admin signed; not kept."
        )
        self.memory_reserved = metrics.gauge(
            "memory_reserved", "Bytes reserved for what peers send and ask, of --memory."
        )
        self.links_refused = metrics.counters("links_refused", "Links refused or broken by rule, by reason.", "reason")
        self.unreached = metrics.counter("peers_cannot_reach_us", "Alarm: peers that find nobody at our address.")
        self.conflicts = metrics.counter("conflicts", "Alarm: packets of one key with other bytes; both are kept.")
        self.forks = metrics.counter("seal_forks", "Alarm: seals of one number with other bytes; both are kept.")
        self.bad_reads = metrics.counter("bad_reads", "Alarm: packets that no longer verified when read; not sent.")
        self.skipped = metrics.counter("bytes_skipped", "Alarm: damaged bytes between good packets, found by a scan.")
        self.torn = metrics.counter("bytes_torn", "Bytes cut off a torn tail at start-up.")
        self.footers_rebuilt = metrics.counter("footers_rebuilt", "Footers that didn't verify and were made anew.")
        self.disks_missing = metrics.counter("disks_missing", "Alarm: disks that the node had and has no more.")
        self.hung = metrics.counter("disks_hung", "Alarm: writes that took so long that another disk got them.")
        self.viewers = metrics.gauge("viewers", "Who watches live now.")
        self.live_rows = metrics.counter("live_rows", "Events shown live, once for each viewer.")
        self.live_missed = metrics.counter(
            "live_missed", "Events, at most, that viewers missed because they or this buck were slow. They were told."
        )
        self.live_undecodable = metrics.counter(
            "live_undecodable", "Packets that could not be decoded for viewers; they were stored all the same."
        )
        self.disk_errors = metrics.counter("disk_errors", "Alarm: errors of a disk; it is left after one.")
