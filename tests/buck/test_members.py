"""Members: fifty nodes in one test without a socket or a clock."""

from functools import cache
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from buck.members import FORGET_CLAIM_S, FORGET_DRAINED_S, REST_MAX_S, Members
from protocol.identity import NodeKey
from protocol.limits import PEERS_MAX
from protocol.messages import Peer


@cache
def key_of(n: int) -> NodeKey:
    return NodeKey.from_seed(n.to_bytes(32, "big"))


def peer(n: int, address: str | None = None, heartbeat: int = 1) -> Peer:
    key = key_of(n)
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
            address = node.tick(0.0)
            if address:
                exchange(cluster, node, address)
    for node in nodes:
        node.check()
        assert {one.node for one in node.view()} == {one.me.node for one in nodes}


def test_a_peer_of_gossip_is_not_shown_before_its_own_handshake() -> None:
    node = members(1)
    node.step([peer(2)], 0.0)
    assert node.view() == (node.me,)
    assert node.tick(0.0) == "10.0.0.2:1"
    assert node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    assert not node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 1.0)
    assert [one.node for one in node.view()] == [node.me.node, peer(2).node]


def test_gossip_can_not_move_a_peer_that_was_met() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(2, "10.6.6.6:6", heartbeat=1 << 63)], 0.0)
    assert node.view()[1].address == "10.0.0.2:1"
    assert {node.tick(0.0) for _ in range(50)} == {"10.0.0.2:1", "10.6.6.6:6"}
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
    assert node.tick(0.0) is None


def test_who_was_met_in_an_earlier_life_is_a_member_and_dialled() -> None:
    node = Members(peer(1), [], Random(0), [peer(2), peer(1)])
    assert node.tick(0.0) == "10.0.0.2:1"
    assert [one.node for one in node.view()] == [node.me.node, peer(2).node], "dead or alive: it counts"
    node.check()


def test_an_address_where_nobody_answers_rests_longer_each_time_and_takes_no_turn() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(3)], 0.0)
    now, gaps, last = 0.0, [], None
    while len(gaps) < 14:
        address = node.tick(now)
        if address == "10.0.0.3:1":
            gaps.append(now - (last or 0.0))
            last = now
            node.failed(address, now)
            node.step([peer(3)], now + 0.1)  # others believe in it still
        now += 1.0
    assert gaps[-1] >= REST_MAX_S > gaps[1]
    node.check()


def test_a_dead_member_stays_one_and_a_claim_is_forgotten() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(3)], 0.0)
    node.tick(FORGET_CLAIM_S + 1)
    assert set(node.known) == {peer(2).node}
    node.tick(400 * 86_400.0)
    assert [one.node for one in node.others()] == [peer(2).node]


def test_a_drained_one_is_no_member_and_forgotten_a_day_after_its_last_word() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(2, heartbeat=5)._replace(draining=True)], 50.0)
    assert node.others() == []
    assert len(node.view()) == 2, "its word still travels"
    node.tick(FORGET_DRAINED_S)
    assert len(node.view()) == 2
    node.tick(FORGET_DRAINED_S + 51)
    assert node.view() == (node.me,)


def test_a_drained_one_that_stays_after_all_is_a_member_again() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.step([peer(2, heartbeat=5)._replace(draining=True)], 1.0)
    node.step([peer(2, heartbeat=4)], 2.0)
    assert node.others() == [], "old news"
    node.step([peer(2, heartbeat=6)], 3.0)
    assert [one.node for one in node.others()] == [peer(2).node]


def test_a_retired_one_never_comes_back() -> None:
    node = members(1)
    node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 0.0)
    node.retire(peer(2).node)
    node.step([peer(2, heartbeat=9)], 1.0)
    assert not node.shown(peer(2).node, peer(2).public, "10.0.0.2:1", 1.0)
    assert node.view() == (node.me,)
    node.check()


events = st.lists(
    st.one_of(
        st.tuples(st.just("gossip"), st.integers(1, 6), st.integers(1, 6), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("met"), st.integers(1, 6), st.integers(1, 6), st.just(0), st.just(False)),
        st.tuples(st.just("failed"), st.integers(1, 6), st.integers(1, 6), st.just(0), st.just(False)),
    ),
    max_size=60,
)


@given(events, st.integers(0, 99))
def test_views_only_grow_whatever_is_gossiped(history: list[tuple[str, int, int, int, bool]], seed: int) -> None:
    """No member is lost, moved or aged by what others say; only its own handshake moves it."""
    node = members(1, "10.0.0.3:1", seed=seed)
    addresses: dict[bytes, str] = {}
    for now, (kind, who, where, heartbeat, draining) in enumerate(history):
        before = {one.node: one for one in node.view()}
        one, address = peer(who), f"10.0.0.{where}:1"
        if kind == "gossip":
            node.step([peer(who, address, heartbeat)._replace(draining=draining)], now)
        elif kind == "met":
            node.shown(one.node, one.public, address, now)
            addresses[one.node] = address
        else:
            node.failed(address, now)
        node.tick(now)
        node.check()
        after = {one.node: one for one in node.view()}
        assert before.keys() <= after.keys() == {node.me.node, *addresses}
        assert all(after[one].heartbeat >= before[one].heartbeat for one in before)
        assert all(after[one].address == address for one, address in addresses.items() if one != node.me.node)


@given(st.integers(0, 1000), st.integers(3, 8))
def test_two_views_that_were_exchanged_agree_on_who_drains(seed: int, count: int) -> None:
    nodes = [members(n, *(["10.0.0.1:1"] if n > 1 else []), seed=seed + n) for n in range(1, count + 1)]
    cluster = {node.me.address: node for node in nodes}
    for turn in range(30 + 5 * count):
        for node in nodes:
            node.beat(5, draining=node is nodes[-1] and turn > 20)
            address = node.tick(float(turn))
            if address:
                exchange(cluster, node, address)
    gone = nodes[-1].me.node
    assert all(gone not in {one.node for one in node.others()} for node in nodes[:-1])
    assert all(len(node.others()) == count - 2 for node in nodes[:-1])
