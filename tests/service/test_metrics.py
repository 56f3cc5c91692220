"""Counting: a registry of its own, cells that are kept, one page and one table."""

from service.metrics import Metrics


def test_the_page_and_the_table_show_what_was_counted():
    metrics = Metrics("buck")
    stored = metrics.counter("packets_stored", "Packets written.")
    refused = metrics.counters("packets_refused", "Packets refused.", "reason")
    metrics.gauge("buckets_open", "Buckets being written.", lambda: 7)
    stored.inc()
    stored.inc(2)
    refused["full"].inc()
    assert refused["full"] is refused["full"]
    assert metrics.values() == {"packets_stored": 3, "packets_refused{reason=full}": 1, "buckets_open": 7}
    page = metrics.page().decode()
    assert "# HELP buck_packets_stored_total Packets written." in page
    assert 'buck_packets_refused_total{reason="full"} 1.0' in page
    assert "process_resident_memory_bytes" in page
    assert "_created" not in page


def test_two_nodes_in_one_process_count_for_themselves():
    first, second = Metrics("buck"), Metrics("buck")
    first.counter("x", "X.").inc()
    assert second.counter("x", "X.")._value.get() == 0
