"""Classes by path, host and app: each line of a file goes where the first rule that fits it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.limits import POINT_HZ
from protocol.packet import Class
from service.config import load
from tailer import blocks as blocks_module
from tailer.blocks import Blocks, Draft, Source
from tailer.kinds import NAMES_MAX, Kinds, Route
from tailer.settings import ClassRule, TailerSettings
from tests.protocol.gathering import kernels

ARRIVAL = 1_790_000_000 * POINT_HZ  # 2026-09-21T14:13:20Z
AUDIT, CHATTER, PLAIN = Class(3, True, True), Class(1, False, False), Class()
RULES = (
    ClassRule(app="sudo", copies=3, sync="packet"),
    ClassRule(host="db*", app="*", copies=3, sync="packet"),
    ClassRule(path="/var/log/*", app="cron*", copies=1, resend=False),
)


def kinds(*rules: ClassRule, host: bytes = b"web1") -> Kinds:
    return Kinds([rule.rule(b"/") for rule in rules], host)


@pytest.fixture(params=kernels.args[1])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Blocks over one kernel, then over the other."""
    for name in ("Builder", "Stream", "encode"):
        monkeypatch.setattr(blocks_module, name, getattr(request.param, name))
    return request.param


def source(kernel: Any, of: Kinds, path: bytes = b"/var/log/syslog", handle: int = 1) -> Source:
    stream = kernel.Stream(ARRIVAL)
    return Source(handle, handle.to_bytes(16, "big"), path, bytes(8), of(path), stream, of.route(path))


def dealt(kernel: Any, data: bytes, of: Kinds, cut: int = 1 << 20) -> dict[Class, list[bytes]]:
    """Class -> its lines, in the order of the file, fed in blocks of `cut` bytes."""
    blocks, one = Blocks(300, b"web1"), source(kernel, of)
    at = 0
    while at < len(data):
        final = at + cut >= len(data)
        used = blocks.add(one, memoryview(data[at : at + cut]), 0, at, ARRIVAL, final, 0.0)
        assert used or not final
        at, cut = at + used, cut if used else 2 * cut
    return lines_of(blocks.flush(), data)


def lines_of(drafts: list[Draft], data: bytes) -> dict[Class, list[bytes]]:
    found: dict[Class, list[bytes]] = {}
    for draft in drafts:
        for run in draft.runs:
            found.setdefault(draft.kind, []).extend(data[run.first : run.end].splitlines(keepends=True))
    return found


def line(app: str, text: str = "text", host: str = "web1", second: int = 0) -> bytes:
    return f"Sep 21 14:13:{second:02} {host} {app}: {text}\n".encode()


def test_lines_of_one_file_are_dealt_by_what_they_name(kernel: Any) -> None:
    data = [
        line("sudo[77]", "root"), line("cron", "ran"), line("nginx", "GET"), line("sudo", "again"),
        line("nginx", "on the database", host="db7"), line("cron[8]", "ran again"),
    ]  # fmt: skip
    assert dealt(kernel, b"".join(data), kinds(*RULES)) == {
        AUDIT: [data[0], data[3], data[4]],
        CHATTER: [data[1], data[5]],
        PLAIN: [data[2]],
    }


def test_a_line_without_a_time_has_the_class_of_the_line_before(kernel: Any) -> None:
    data = [
        b"before any time\n",
        line("cron"),
        b"  a stack trace\n",
        b"  goes on\n",
        line("nginx"),
        b"\n",
        line("sudo"),
    ]
    assert dealt(kernel, b"".join(data), kinds(*RULES)) == {
        CHATTER: data[1:4],
        PLAIN: [data[0], *data[4:6]],
        AUDIT: data[6:],
    }


def test_every_fragment_of_a_long_line_goes_where_its_beginning_went(kernel: Any) -> None:
    long = line("cron", "x" * 150_000)
    found = dealt(kernel, line("nginx") + long + line("nginx"), kinds(*RULES))
    assert sum(map(len, found[CHATTER])) == len(long)
    assert found[PLAIN] == [line("nginx")] * 2


def test_what_names_no_application_fits_no_rule_for_one_and_has_the_tailers_host(kernel: Any) -> None:
    data = b"2026-09-21T14:13:20Z a line that names nobody\n"
    assert list(dealt(kernel, data, kinds(*RULES))) == [PLAIN]
    assert list(dealt(kernel, data, kinds(ClassRule(app="*", copies=3)))) == [PLAIN]
    assert list(dealt(kernel, data, kinds(ClassRule(host="web?", copies=3)))) == [Class(3)]
    assert list(dealt(kernel, line("nginx", host="db1"), kinds(ClassRule(host="web?", copies=3)))) == [PLAIN]


APPS = st.sampled_from(["sudo", "cron", "cron.daily", "nginx", "kernel", "a" * 60, "no time"])
HOSTS = st.sampled_from(["web1", "db1", "db2", "h" * 60])


@given(st.lists(st.tuples(APPS, HOSTS), max_size=60), st.integers(40, 2000))
@pytest.mark.parametrize("twin", [False, True])
def test_however_the_bytes_are_cut_each_line_goes_by_its_own_names(
    twin: bool, names: list[tuple[str, str]], cut: int
) -> None:
    kernel = kernels.args[1][0 if twin else -1].values[0]
    expected: dict[Class, list[bytes]] = {}
    data, before = b"", PLAIN
    for second, (app, host) in enumerate(names):
        if app == "no time":
            text, kind = b"nothing in here\n", before
        else:
            text = line(app, host=host, second=second)
            kind = AUDIT if app == "sudo" or host.startswith("db") else CHATTER if app.startswith("cron") else PLAIN
        expected.setdefault(kind, []).append(text)
        data, before = data + text, kind
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Builder", "Stream", "encode"):
            patch.setattr(blocks_module, name, getattr(kernel, name))
        assert dealt(kernel, data, kinds(*RULES), cut) == expected


def test_streams_with_and_without_a_route_share_builders_of_their_class(kernel: Any) -> None:
    of = kinds(*RULES)
    blocks = Blocks(300, b"web1")
    assert of.route(b"/opt/plain") is not None, "a rule for an application is for all files"
    routed, plain = source(kernel, of, handle=1), source(kernel, kinds(), handle=2)
    assert plain.route is None
    data = line("nginx") + line("sudo")
    for number in range(6):
        at = len(data) * (number // 2)
        blocks.add((routed, plain)[number % 2], memoryview(data), 0, at, ARRIVAL, True, 0.0)
    counts = {draft.kind: (draft.count, len(draft.streams)) for draft in blocks.flush()}
    assert counts == {PLAIN: (9, 2), AUDIT: (3, 1)}


def test_A19_names_without_end_cost_no_memory() -> None:
    route = Route([rule.rule(b"/") for rule in RULES], b"web1")
    for number in range(3 * NAMES_MAX):
        assert Class.from_code(route[b"host", b"app%d" % number]) == PLAIN
    assert len(route) <= NAMES_MAX


def test_rules_for_paths_alone_need_no_look_at_any_line() -> None:
    of = kinds(ClassRule(path="/audit/**", copies=3), ClassRule(path="/tmp/*", app="x", resend=False))
    assert (of.route(b"/audit/a"), of(b"/audit/a")) == (None, Class(3))
    assert of.route(b"/tmp/a") is not None
    assert of(b"/tmp/a") == PLAIN


def test_rules_are_read_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[[classes]]\nhost = "db*"\napp = "post?res"\ncopies = 1\n')
    of = load(TailerSettings, {}, str(tmp_path / "t.toml"), environ={}).kinds(b"/", b"web1")
    route = of.route(b"/any")
    assert route is not None
    assert Class.from_code(route[b"db\xff", b"postgres"]) == Class(1)
    assert Class.from_code(route[b"db1", b"postgresql"]) == PLAIN
