"""The proxy holds back and resets as it says, and the benchmarks under faults run, at sizes that prove nothing."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import chaos, failover
from bench.proxy import Proxy

HELD_S = 0.2


@pytest.fixture
def way() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and both ends of a connection through it."""
    proxy = Proxy()
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.target = "127.0.0.1:{1}".format(*server.getsockname())
        host, _, port = proxy.address.rpartition(":")
        with socket.create_connection((host, int(port)), 5.0) as near:
            far, _ = server.accept()
            with far:
                far.settimeout(5.0)
                yield proxy, near, far
    proxy.close()


def is_silent(end: socket.socket) -> bool:
    end.settimeout(HELD_S)
    try:
        return not end.recv(100)
    except TimeoutError:
        return True
    finally:
        end.settimeout(5.0)


@pytest.mark.parametrize(("to", "back"), [(True, True), (True, False), (False, True)])
def test_what_is_held_comes_later_and_nothing_is_lost(
    way: tuple[Proxy, socket.socket, socket.socket], to: bool, back: bool
) -> None:
    proxy, near, far = way
    near.sendall(b"one")
    assert far.recv(100) == b"one"
    proxy.hold(to=to, back=back)
    near.sendall(b"two")
    far.sendall(b"three")
    assert is_silent(far) if to else far.recv(100) == b"two"
    assert is_silent(near) if back else near.recv(100) == b"three"
    proxy.go_on()
    assert not to or far.recv(100) == b"two"
    assert not back or near.recv(100) == b"three"
    assert proxy.carried == [6, 5]


def test_a_reset_is_seen_by_both_ends(way: tuple[Proxy, socket.socket, socket.socket]) -> None:
    proxy, near, far = way
    near.sendall(b"one")
    assert far.recv(100) == b"one"
    proxy.reset()
    for end in (near, far):
        with contextlib.suppress(ConnectionResetError):
            assert end.recv(100) == b""


def test_an_end_that_dies_behind_a_cut_is_not_noticed_before_it_heals(
    way: tuple[Proxy, socket.socket, socket.socket],
) -> None:
    proxy, near, far = way
    near.sendall(b"one")
    assert far.recv(100) == b"one"
    proxy.hold()
    far.close()
    near.settimeout(HELD_S)
    with pytest.raises(TimeoutError):
        near.recv(100)
    proxy.go_on()
    near.settimeout(5.0)
    assert near.recv(100) == b""


def test_a_run_of_chaos_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "FAULTS", (1, 1))
    result = chaos.play(6, tmp_path, seconds=1.0)
    assert result.good, result.line()
    assert result.faults.total() == 1
    assert result.bucks == result.archive
    assert result.bucks.written >= chaos.STEP_LINES
    assert "acked events lost 0, duplicates 0, phantoms 0; valid 1 of 1" in chaos.summary([result])


def test_a_failover_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "WARM_S", 0.5)
    monkeypatch.setattr(failover, "AFTER_S", 0.5)
    found = failover.once(tmp_path / "cluster", 500_000, failover.killed)
    assert found.before > 0
    assert 0 < found.worst < failover.END_S
    assert 0 < found.silent <= found.worst + 1
