"""What is fuzzed: whatever reads bytes that somebody else may have written, and what must hold for any of them.

A target has samples, good ones, which the fuzzer damages, and a check. The check ends quietly for bytes that are fine
and for those that are refused with one of the documented errors; any other exception is a finding. Digests and
signatures are put right again behind the damage where nothing gets any further without: a stolen key could do the same.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import hypothesis
from blake3 import blake3
from hypothesis import given, settings

from buck.bucket import Part
from buck.errors import SpoiltError
from buck.files import CLOSED, PartName
from buck.footer import encode
from buck.index import Index
from buck.settings import BuckSettings
from porter.settings import PorterSettings
from porter.shelf import block_of
from protocol.connection import Connection
from protocol.errors import FormatError, LocalProtocolError, ProtocolError, RemoteProtocolError
from protocol.frames import Frames, frame
from protocol.messages import MESSAGES, Message
from protocol.packed import PackedError, unpack_array
from protocol.packet import DIGEST_SIZE, build, read, unpack
from protocol.payload import dump, load
from protocol.seal import Seal
from protocol.trust import Trust
from service.config import ConfigError
from service.config import load as load_settings
from service.machine import RealMachine
from tailer.settings import TailerSettings
from tests.buck.making import BUCKET, make
from tests.protocol.secure_pairs import LINES, Between, ends, linked
from tests.protocol.test_messages import messages
from tests.protocol.test_seal import SEAL, resigned
from tests.protocol.wire_samples import KEY, packet

BOUNDS = {tag: kind.size_max for tag, kind in MESSAGES.items()}
PIECES = (1, 3, 17, 250, 4_000)


class Target(NamedTuple):
    """Something that reads bytes: good samples of them, and the check."""

    name: str
    samples: Sequence[bytes]
    check: Callable[[bytes], None]


# --- frames and messages ----------------------------------------------------------------------------------------------


def _frames(data: bytes) -> None:
    whole, pieces = _frames_of([data]), _frames_of(_cut(data))
    assert whole == pieces, "in pieces it is not the same"
    found, _ = whole
    assert sum(len(payload) for _, payload in found) <= len(data), "more came out than went in"
    for tag, payload in found:
        try:
            message = load(MESSAGES[tag], payload)
        except RemoteProtocolError:
            continue
        assert load(MESSAGES[tag], b"".join(bytes(piece) for piece in dump(message))) == message


def _frames_of(pieces: Sequence[bytes]) -> tuple[list[tuple[int, bytes]], str]:
    frames, found = Frames(BOUNDS), []
    try:
        for piece in pieces:
            frames.feed(piece)
            while received := frames.next():
                found.append((received.tag, bytes(received.payload)))
    except RemoteProtocolError as error:
        return found, str(error)
    return found, ""


def _cut(data: bytes) -> list[bytes]:
    """The same cuts for the same bytes."""
    pieces, at = [], 0
    while at < len(data):
        size = PIECES[(at + len(data)) % len(PIECES)]
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _frame_samples() -> list[bytes]:
    """Some messages of many kinds, the same in each run."""
    found: list[bytes] = []

    @hypothesis.seed(1)
    @settings(max_examples=60, database=None)
    @given(messages)
    def collect(message: Message) -> None:
        found.append(b"".join(bytes(piece) for piece in frame(message.tag, dump(message))))

    collect()
    return found


# --- the handshake ----------------------------------------------------------------------------------------------------


def _handshake(data: bytes) -> None:
    """Either side, whatever it hears: it ends the link or waits, and nothing is heard that was not said."""
    for side in (0, 1):
        heard = [_heard(side, pieces) for pieces in ([data], _cut(data))]
        assert heard[0] == heard[1], "in pieces it is not the same"


def _heard(side: int, pieces: Sequence[bytes]) -> str:
    end: Connection = ends()[side]
    end.start()
    try:
        for piece in pieces:
            end.receive(piece)
            end.reply()
            assert not list(end.messages()), "a message of somebody whose keys these ends have never seen"
    except (ProtocolError, LocalProtocolError) as error:
        return type(error).__name__
    return ""


def _session_samples() -> list[bytes]:
    between: Between = linked()
    return [b"".join(data for theirs, data in between.script if theirs is side) for side in (True, False)]


# --- packets, bucket files, seals -------------------------------------------------------------------------------------


def _packet(data: bytes) -> None:
    for one in (data, data[:-DIGEST_SIZE] + blake3(data[:-DIGEST_SIZE]).digest()):
        try:
            found = read(one)
            assert read(build(found.header, found.body)).header == found.header, "it does not read back"
            body = unpack(found)
            assert len(body) == sum(found.header.sizes), "more was unpacked than the header says"
            block_of(found)
        except FormatError:
            continue


def _bucket_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        part = Part(RealMachine().disk, folder, PartName(BUCKET, 0, CLOSED))
        part.disk.mkdirs(part.folder)
        Path(part.path).write_bytes(data)
        try:
            part.read_trailer()
            part.read_index()
        except SpoiltError:
            pass
        index, end, skipped = part.scan_index("prod")
        assert 0 <= skipped <= end <= len(data)
        for group in index.groups.values():
            for place in group.places(group.ranges()):
                read(data[place.offset : place.offset + place.size])  # what is listed is whole


def _bucket_sample() -> bytes:
    index, data = Index(), b""
    for number in range(4):
        one = make(number, bytes([65 + number]) * 30)
        index.add(read(one), len(data))
        data += one
    return data + encode(index, len(data), 1_795_338_000_000_000_000)


def _seal(data: bytes) -> None:
    candidates = [data]
    with contextlib.suppress(PackedError):  # what can't be unpacked can't be signed again either
        candidates.append(resigned(unpack_array(data[8:-64])))
    for one in candidates:
        try:
            found = Seal.read(one)
        except FormatError:
            continue
        assert Seal.read(found.signed(KEY).data) == found, "it does not read back"


# --- what an operator writes ------------------------------------------------------------------------------------------


def _config(data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        path = Path(folder, "buck.toml")
        path.write_bytes(data)
        for kind in (BuckSettings, TailerSettings, PorterSettings):
            with contextlib.suppress(ConfigError):
                load_settings(kind, {}, str(path), {})


def _keys(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        Trust.parse(data.decode("utf-8", "replace"))


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


CONFIG = b"""\
width = "300s"
listen = "127.0.0.1:7311"
disk = ["/var/lib/buck/0", "/var/lib/buck/1"]
env = "prod"
to = ["a:7311", "b:7311"]
journal_size = "2GB"
peer = ["a:7311"]
"""


def targets() -> Iterator[Target]:
    """All of them."""
    yield Target("frames", _frame_samples(), _frames)
    yield Target("handshake", _session_samples(), _handshake)
    yield Target("packet", [packet(), make(1, b"x" * 100)], _packet)
    yield Target("bucket file", [_bucket_sample()], _bucket_file)
    yield Target("seal", [SEAL.signed(KEY).data], _seal)
    yield Target("config", [CONFIG], _config)
    yield Target("keys", ["\n".join(LINES.values()).encode()], _keys)
