"""Encrypted links without sockets: they carry what links in clear do, between those that may."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.messages import Clock, ClockIs, Message, Peers, Put
from protocol.noise import TAG_SIZE
from protocol.secure import LENGTH, PLAIN_MAX
from protocol.trust import Certificate
from tests.protocol.secure_pairs import BUCK, LINES, OTHER, TAILER, linked, sealed, security


def test_both_know_each_other_and_the_messages_come_through() -> None:
    between = linked()
    assert between.dialler.peer == between.listener.hello
    assert between.listener.peer == between.dialler.hello
    assert between.listener.grant
    assert between.listener.grant.public == TAILER.public
    between.give(True, sealed(between.dialler, Clock(1), Peers(2)))
    assert list(between.listener.messages()) == [Clock(1), Peers(2)]
    between.give(False, sealed(between.listener, ClockIs(1, 7)))
    assert list(between.dialler.messages()) == [ClockIs(1, 7)]


def test_nothing_that_is_said_can_be_read_on_the_way() -> None:
    packet = b"the quick brown fox " * 1000
    between = linked()
    between.give(True, sealed(between.dialler, Put(1, 0, False, packet)))
    everything = b"".join(data for _, data in between.script)
    assert b"quick brown" not in everything
    assert TAILER.public not in everything
    assert BUCK.public not in everything
    assert b"prod" not in everything


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=4), st.integers(1, 70_000), st.booleans())
def test_messages_of_any_size_come_through_in_pieces_of_any_size(sizes: list[int], piece: int, small: bool) -> None:
    between = linked()
    sent: list[Message] = [Put(n, 0, False, os.urandom(size + 1)) for n, size in enumerate(sizes, 1)]
    wire = sealed(between.dialler, *sent)
    step = min(piece, 97) if small and len(wire) < 5_000 else max(piece, len(wire) // 100)
    got: list[Message] = []
    for at in range(0, len(wire), step):
        between.listener.receive(wire[at : at + step])
        got += between.listener.messages()
    assert [(put.ask, bytes(put.packet)) for put in got] == [(put.ask, bytes(put.packet)) for put in sent]  # type: ignore[attr-defined]  # all are Put


def test_no_record_is_longer_than_noise_allows_and_none_is_empty() -> None:
    between = linked()
    wire, sizes = sealed(between.dialler, Put(1, 0, False, bytes(300_000))), []
    while wire:
        size = LENGTH.unpack_from(wire)[0]
        sizes.append(size)
        wire = wire[LENGTH.size + size :]
    assert max(sizes) == PLAIN_MAX + TAG_SIZE == 65_535
    assert min(sizes) > TAG_SIZE


def test_keys_are_replaced_after_so_many_records_and_nobody_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.secure.REKEY_RECORDS", 50)
    between = linked()
    assert between.dialler._channel
    keys = {id(between.dialler._channel._send._aead)}
    for number in range(120):
        between.listener.receive(sealed(between.dialler, Clock(number)))
        assert list(between.listener.messages()) == [Clock(number)]
        keys.add(id(between.dialler._channel._send._aead))
    assert len(keys) == 3


def test_a_certificate_lets_in_whom_no_line_names() -> None:
    lines = LINES["buck"], f"signer {OTHER.public.hex()} roles=tailer hosts=web-*"
    facts = ("prod", TAILER.public, OTHER.public, ("tailer",), ("*",), 1_800_000_001)
    shown = Certificate(1, *facts).encode(OTHER)
    between = linked(security(TAILER, certificate=shown), listener := security(BUCK, *lines))
    assert between.listener.welcome
    listener.time_ns = lambda: 1_800_000_001 * 10**9
    assert not between.listener.welcome  # it has expired meanwhile


def test_a_link_is_not_welcome_any_more_when_its_line_is_gone_or_another() -> None:
    listener = security(BUCK)
    between = linked(listener=listener)
    for lines, welcome in [
        (LINES.values(), True),
        ([LINES["buck"], LINES["tailer"].replace("roles=tailer", "roles=tailer,porter")], True),
        ([LINES["buck"]], False),
        ([LINES["buck"], LINES["tailer"].replace("roles=tailer", "roles=porter")], False),
        ([LINES["buck"], LINES["tailer"].replace("web-", "db-")], False),
    ]:
        listener.trust = security(BUCK, *lines).trust
        assert between.listener.welcome is welcome
