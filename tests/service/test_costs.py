"""What each class costs: counted where it can be, divided where it can't, and the parts sum up."""

from hypothesis import given
from hypothesis import strategies as st

from service.costs import Costs, Unsynced
from service.metrics import Metrics

WRITES = st.lists(st.tuples(st.sampled_from(["1", "2+resend", "3+sync+resend"]), st.integers(1, 1 << 20)), max_size=20)


@given(WRITES)
def test_an_fsync_is_divided_by_bytes_among_those_that_asked_for_it(writes: list[tuple[str, int]]) -> None:
    file = Unsynced()
    for kind, size in writes:
        file.add(kind, size, "sync" in kind)
    parts = file.take()
    assert not writes or abs(sum(parts.values()) - 1) < 1e-9
    if any("sync" in kind for kind, _ in writes):
        assert set(parts) == {"3+sync+resend"}
    assert file.take() == {}, "each fsync is divided once"


def test_cpu_is_divided_by_the_bytes_that_moved_and_none_of_it_is_lost() -> None:
    now = 0.0
    metrics = Metrics("test")
    costs = Costs(metrics, lambda: now)
    file = Unsynced()
    costs.written("1", 10, 300, file, False)
    costs.moved("1", 300)
    costs.moved("2+resend", 200)
    now = 8.0
    costs.tick()
    now = 9.0
    costs.tick()  # nothing has moved: the second waits
    costs.moved("2+resend", 1)
    costs.tick()
    costs.synced(file.take())
    found = metrics.values()
    assert found["class_cpu_seconds{class=1}"] == 6.0
    assert found["class_cpu_seconds{class=2+resend}"] == 3.0
    assert found["class_packets{class=1}"] == found["class_fsyncs{class=1}"] == 1
    assert (found["class_lines{class=1}"], found["class_disk_bytes{class=1}"]) == (10, 300)
    assert (found["class_network_bytes{class=1}"], found["class_network_bytes{class=2+resend}"]) == (300, 201)
