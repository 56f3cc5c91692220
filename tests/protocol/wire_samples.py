"""Headers, packets, seals and messages to play with: plain samples, and strategies that make any legal one."""

from dataclasses import replace

from hypothesis import strategies as st

from protocol import identity, limits
from protocol.formats import Format
from protocol.header import Class, Header, Run, StreamRef
from protocol.messages import Hello
from protocol.packet import Packer, build

KEY = identity.NodeKey.from_seed(b"tailer's seed, exactly 32 bytes!")
BUCK = identity.NodeKey.from_seed(b"a buck's seed is of 32 bytes too")
BUCKET = 1_795_338_000
LOW = BUCKET * limits.POINT_HZ
BODY = b"GET /index.html\n" * 400 + bytes(800)

HEADER = Header(
    env="prod", bucket=BUCKET, width=300, tailer=KEY.node, host=b"web-17.fra", epoch=7 << 32 | 0xDEADBEEF, number=4_711,
    kind=Class(), count=400, point_min=LOW + 12_345, point_max=LOW + 299 * limits.POINT_HZ, late=False,
    streams=(StreamRef(identity.file_stream(1, 2, b"x", 0), b"/var/log/nginx/access.log", identity.head_hash(b"x")),),
    runs=(Run(0, 123_456_789, 123_456_789 + 2_000_000, 400, LOW - 500),), content=bytes(range(32)),
    sizes=(6_400, 400, 400, 0, 0, 0, 0, 0),
)  # fmt: skip


def packet(header: Header = HEADER, body: bytes = BODY) -> bytes:
    """A packet of `body`, whose first 6,400 bytes are its lines."""
    return build(header, Packer().compress(body[:6_400], body[6_400:]))


def hello(role: str = "tailer", key: identity.NodeKey = KEY, **changes: object) -> Hello:
    """What a node of this role says first."""
    address = "127.0.0.1:7311" if role == "buck" else ""
    plain = Hello(role, key.public, "prod", 300, b"web-17", (1, 1), address, 1_795_338_000_000_000_000)
    return replace(plain, **changes)


def names(size: int, high: int | None = None) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size if high is None else high)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=5) | st.floats(),
    st.lists,
    max_leaves=8,
)
u64 = st.integers(0, 2**64 - 1)
formats = st.builds(
    Format, *[st.integers(0, 200)] * 7, st.integers(-50_400, 50_400), names(0, 8), names(0, 20)
)  # fmt: skip


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Any header that a writer may write."""
    width = draw(st.sampled_from([1, 60, 300, 86_400]))
    bucket = draw(st.integers(0, (2**32 - 1) // width)) * width
    streams = draw(
        st.lists(st.builds(StreamRef, names(16), names(0, 60), names(8)), max_size=4, unique_by=lambda s: s[0])
    )
    runs = []
    for _ in range(draw(st.integers(0, 5)) if streams else 0):
        first, length = draw(st.integers(0, 2**63)), draw(st.integers(0, 400_000))
        count = draw(st.integers(0, min(length, 20_000)))
        start = draw(st.integers(0, limits.POINT_MAX))
        runs.append(Run(draw(st.integers(0, len(streams) - 1)), first, first + length, count, start))
    late = draw(st.booleans())
    low, high = (0, limits.POINT_MAX) if late else (bucket * limits.POINT_HZ, (bucket + width) * limits.POINT_HZ - 1)
    points = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    kind = Class(draw(st.integers(1, 3)), draw(st.booleans()), draw(st.booleans()))
    return Header(
        draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=16)), bucket, width, draw(names(16)),
        draw(names(0, 40)), draw(u64), draw(u64), kind,
        sum(run[3] for run in runs), points[0], points[1], late, tuple(streams), tuple(runs), draw(names(32)),
        tuple(draw(st.lists(formats, max_size=3))), tuple(draw(st.lists(names(0, 9), max_size=3))),
        tuple(draw(st.lists(names(0, 9), max_size=3))), tuple(draw(st.tuples(*[st.integers(0, 1 << 20)] * 8))),
    )  # fmt: skip
