"""Members: fifty nodes in one test without a socket or a clock."""

from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from buck.members import Members
from protocol.identity import NodeKey
from protocol.limits import PEERS_MAX
from protocol.messages import Peer


def peer(n: int, address: str | None = None, heartbeat: int = 1) -> Peer:
    key = NodeKey.from_seed(n.to_bytes(32, "big"))
    return Peer(key.node, key.public, f"10.0.0.{n}:1" if address is None else address, b"h", "", heartbeat, 0, False)


def members(n: int, *joins: str, seed: int = 0) -> Members:
    return Members(peer(n), joins, Random(seed))


def exchange(cluster: dict[str, Members], one: Members, address: str) -> None:
    """What the node does: dial, shake hands, push and pull."""
    other = cluster.get(address)
    if other is None:
        return
    one.shown(other.me.node, other.me.public, address, 0.0)
    other.step(one.view(), 0.0)
    one.step(other.view(), 0.0)


@given(st.integers(0, 1000), st.integers(2, 9))
@example(0, 50)
def test_all_learn_of_all_from_one_join_address(seed: int, count: int) -> None:
    nodes = [members(n, *(["10.0.0.1:1"] if n > 1 else []), seed=seed + n) for n in range(1, count + 1)]
    cluster = {node.me.address: node for node in nodes}
    for _ in range(20 + 5 * count):
        for node in nodes:
            node.beat(5)
            address = node.tick()
            if address:
                exchange(cluster, node, address)
    for node in nodes:
        node.check()
        assert {one.node for one in node.view()} == {one.me.node for one in nodes}


def test_a_peer_of_gossip_is_not_shown_before_its_own_handshake() -> None:
    node = members(1)
    node.step([peer(2)], 0.0)
    assert node.view() == (node.me,)
    assert node.tick() == "10.0.0.2:1"
    assert node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    assert not node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 1.0)
    assert [one.node for one in node.view()] == [node.me.node, peer(2).node]


def test_gossip_can_not_move_a_peer_that_was_met() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(2, "10.6.6.6:6", heartbeat=1 << 63)], 0.0)
    assert node.view()[1].address == "10.0.0.2:1"
    assert {node.tick() for _ in range(50)} == {"10.0.0.2:1", "10.6.6.6:6"}
    node.shown(peer(2).node, peer(2).public, "10.6.6.6:6", 0.0)
    assert node.view()[1].address == "10.6.6.6:6", "its own handshake can"


def test_gossip_with_a_key_that_is_not_the_nodes_is_ignored() -> None:
    node = members(1)
    node.step([peer(2)._replace(public=peer(3).public), peer(4, ""), peer(1)], 0.0)
    assert node.known == {}


def test_an_older_heartbeat_changes_nothing() -> None:
    node = members(1)
    node.step([peer(2, heartbeat=5)._replace(free=50)], 0.0)
    node.step([peer(2, heartbeat=4)._replace(free=40)], 1.0)
    assert node.known[peer(2).node].peer.free == 50
    assert node.known[peer(2).node].heard == 0.0
    node.step([peer(2, heartbeat=6)._replace(free=60)], 2.0)
    assert node.known[peer(2).node].peer.free == 60
    assert node.known[peer(2).node].heard == 2.0


def test_a_flood_of_claims_is_bounded_and_gives_way_to_who_was_met() -> None:
    node = members(1)
    node.step([peer(n) for n in range(2, PEERS_MAX + 100)], 0.0)
    node.check()
    late = peer(PEERS_MAX + 500)
    assert node.shown(late.node, late.public, late.address, 0.0)
    node.check()
    assert late.node in {one.node for one in node.view()}


def test_a_join_address_that_is_ourselves_is_forgotten() -> None:
    node = members(1, "localhost:1")
    node.shown(node.me.node, node.me.public, "localhost:1", 0.0)
    assert node.tick() is None


def test_who_was_remembered_is_dialled_and_not_believed() -> None:
    node = Members(peer(1), [], Random(0), [peer(2)])
    assert node.tick() == "10.0.0.2:1"
    assert len(node.view()) == 1
