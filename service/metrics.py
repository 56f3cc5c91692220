"""What a process counts, for Prometheus and for its own status page.

    metrics = Metrics("buck")
    stored = metrics.counter("packets_stored", "Packets written to a bucket file.")
    refused = metrics.counters("packets_refused", "Packets refused, by reason.", "reason")
    stored.inc();  refused["full"].inc()

Each process (and each node in a test) has its own registry: nothing is global. What `counter` and `counters[...]`
give is the cell itself, kept by the caller, so that counting costs half a microsecond; count per packet, never per
line.
"""

from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# A second series for each counter that says when it began; nothing of ours reads it, and it doubles the page.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped


class Family:
    """Counters that differ in one label. Its values come from the program, never from a peer: there are few."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._cells: dict[str, Counter] = {}

    def __getitem__(self, value: str) -> Counter:
        cell = self._cells.get(value)
        if cell is None:
            cell = self._cells[value] = self._counter.labels(value)
        return cell


class Metrics:
    """The registry of one process; all names get its prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def counter(self, name: str, what: str) -> Counter:
        return Counter(name, what, namespace=self.prefix, registry=self._registry)

    def counters(self, name: str, what: str, label: str) -> Family:
        return Family(Counter(name, what, [label], namespace=self.prefix, registry=self._registry))

    def gauge(self, name: str, what: str, read: Callable[[], float] | None = None) -> Gauge:
        """A value that goes up and down; `read` is asked at each scrape instead of being set."""
        gauge = Gauge(name, what, namespace=self.prefix, registry=self._registry)
        if read is not None:
            gauge.set_function(read)
        return gauge

    def histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, what, namespace=self.prefix, buckets=buckets, registry=self._registry)

    def page(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def values(self) -> dict[str, float]:
        """Everything of ours as one flat table, for the status page: `packets_refused{reason=full}` -> 3."""
        found = {}
        for family in self._registry.collect():
            if family.name.startswith(self.prefix + "_"):
                for sample in family.samples:
                    labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
                    name = sample.name.removeprefix(self.prefix + "_").removesuffix("_total")
                    found[name + (f"{{{labels}}}" if labels else "")] = sample.value
        return found
