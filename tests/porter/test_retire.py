"""`porter retire`: who is meant, who is told, and what audits and verdicts make of it."""

from __future__ import annotations

import base64
import json

import pytest

from porter.archive_audit import look_at_archive
from porter.archived import Archive
from porter.audit import Audit, Found, audit, look_at_bucks
from porter.objects import MemoryObjects
from porter.report import retired as report_retired
from porter.retire import Candidate, Retired, RetireError, choose, retire
from porter.roster import Seen
from porter.status import status, status_tables
from porter.verdict import COMPLETE, RETIRED, UNKNOWN
from protocol.messages import RetirePut
from protocol.roster import Expected, Retirement
from protocol.secure import Security
from protocol.trust import Trust
from service.run import DONE, SHORTFALL
from tests.porter.archiving import HOUR, archive, verdict
from tests.porter.fleet import BUCKET, ENV, WIDTH, FakeBuck, FakeTailer, bucks_of, cluster_of, node_key
from tests.porter.sealing import Chain

pytestmark = pytest.mark.usefixtures("autojump_clock")
LATER = BUCKET + 9 * WIDTH


async def audited(bucks: list[FakeBuck], start: int = 0, end: int = 0) -> Audit:
    found = Found()
    async with cluster_of(bucks) as cluster:
        await look_at_bucks(cluster, found, start, end, False, lambda *_: None)
    return audit(ENV, found, start, end)


async def retired(bucks: list[FakeBuck], name: str) -> Retired:
    async with cluster_of(bucks, "admin") as cluster:
        try:
            return await retire(cluster, name)
        except RetireError as error:
            refused = error
    raise refused


def silent_host() -> tuple[list[FakeBuck], FakeTailer]:
    """Three bucks with a tailer that has said nothing for eight windows."""
    bucks, tailer = bucks_of(3), FakeTailer("web1")
    bucks[0].put(tailer.read(b"/log", b"a line\n"))
    for buck in bucks:
        buck.time_s = LATER
    bucks[0].seals = [Chain(tailer).seal(tailer.packets).data]
    return bucks, tailer


async def test_a_host_that_is_gone_is_retired_by_its_name_and_dated_at_its_last_seal() -> None:
    bucks, tailer = silent_host()
    assert (await audited(bucks)).verdict.state == UNKNOWN
    done = await retired(bucks, "web1")
    word = done.retirement
    assert (word.node, word.role, word.seals, word.until) == (tailer.key.node, "tailer", 1, BUCKET + WIDTH)
    assert word.public == node_key("porter").public
    assert all(buck.retired == [word.data] for buck in bucks)
    assert report_retired(done, as_json=True) == DONE
    (account,) = (await audited(bucks)).verdict.accounts
    assert [(one.start, one.end) for one in account.unknown] == [(BUCKET + WIDTH, BUCKET + 2 * WIDTH)]
    assert account.end == RETIRED
    assert (await audited(bucks, start=BUCKET + 2 * WIDTH)).verdict.state == COMPLETE


async def test_status_says_of_each_tailer_whether_anybody_waits_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    bucks, _ = silent_host()
    left, stopped = FakeTailer("left"), FakeTailer("stopped")
    bucks[1].put([*left.read(b"/log", b"a line\n"), *stopped.read(b"/log", b"a line\n")])
    bucks[1].seals = [Chain(left).seal(left.packets, goodbye=True).data]
    bucks[2].seals = [Chain(stopped).seal(stopped.packets, closing=True).data]
    await retired(bucks, "web1")
    async with cluster_of(bucks) as cluster:
        status_tables(await status(cluster, lambda *_: None))
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in reversed(lines) if line.strip()}  # the table's come first
    assert [rows[name][4] for name in ("web1", "left", "stopped")] == ["retired", "goodbye", "stopped"]


async def test_a_host_that_only_the_roster_of_a_buck_knows_makes_an_audit_unknown() -> None:
    bucks, _ = silent_host()
    bucks[0].seals, bucks[0].packets = [], {}
    bucks[2].expected = (Expected(node_key("db7").node, b"db7", BUCKET),)
    verdict = (await audited(bucks)).verdict
    assert (verdict.state, verdict.accounts[0].host) == (UNKNOWN, b"db7")
    done = await retired(bucks, node_key("db7").node.hex())
    assert (done.retirement.seals, done.retirement.until) == (0, BUCKET)
    assert (await audited(bucks, start=BUCKET + WIDTH)).verdict.accounts == ()


async def test_a_dead_buck_can_be_retired_and_one_that_answers_can_not() -> None:
    bucks, _ = silent_host()
    with pytest.raises(RetireError, match="drain it first"):
        await retired(bucks, "buck2")
    bucks[2].dead = True
    done = await retired(bucks, "buck2")
    assert (done.retirement.role, done.missed) == ("buck", ())
    assert [len(buck.retired) for buck in bucks] == [1, 1, 0]


async def test_who_was_not_told_is_named_and_nobody_at_all_is_an_error() -> None:
    bucks, _ = silent_host()
    bucks[1].mute = (RetirePut,)
    done = await retired(bucks, "web1")
    assert [member.address for member in done.missed] == [bucks[1].address]
    assert report_retired(done, as_json=False) == SHORTFALL
    for buck in bucks:
        buck.mute = (RetirePut,)
    with pytest.raises(RetireError, match="buck0"):
        await retired(bucks, "web1")


async def test_an_archive_alone_knows_who_was_expected_and_who_was_retired() -> None:
    bucks, objects, tailer = bucks_of(1), MemoryObjects(), FakeTailer("web1")
    bucks[0].put(tailer.read(b"/log", b"a line\n", bucket=HOUR))
    bucks[0].seals = [Chain(tailer).seal(tailer.packets, until=HOUR + 7200, goodbye=True).data]
    bucks[0].expected = (Expected(node_key("db7").node, b"db7", HOUR),)
    await archive(bucks, objects)
    assert verdict(objects)["state"] == UNKNOWN

    async def judged() -> Audit:
        found = Found()
        async with cluster_of(bucks) as cluster:
            with Archive(cluster.machine, objects, ENV) as one:
                await look_at_archive(one, found)
        return audit(ENV, found)

    assert [one.host for one in (await judged()).verdict.accounts if one.unknown] == [b"db7"]
    await retired(bucks, "db7")
    bucks[0].time_s = LATER
    bucks[0].expected = ()  # whom an earlier verdict expected is expected still
    await archive(bucks, objects)
    (account,) = [one for one in (await judged()).verdict.accounts if one.host == b"db7"]
    assert (account.end, [(one.start, one.end) for one in account.unknown]) == (RETIRED, [(HOUR, HOUR + 1)])


async def test_with_keys_a_retirement_counts_only_if_the_list_names_its_signer_an_admin() -> None:
    bucks, objects, thief = bucks_of(1), MemoryObjects(), node_key("buck0")
    word = Retirement(ENV, node_key("db7").node, "tailer", b"db7", thief.public, 1, 0, HOUR).signed(thief)
    bucks[0].expected, bucks[0].retired = (Expected(word.node, b"db7", HOUR),), [word.data]
    verdict_text = json.dumps({"roster": [], "retired": [base64.b85encode(word.data).decode()]}).encode()
    for roles, counts in (("buck", 0), ("buck,admin", 1)):
        found = Found()
        async with cluster_of(bucks) as cluster:
            machine = cluster.machine
            security = Security(thief, ENV, machine.entropy, machine.time_ns)
            security.trust = Trust.parse(f"key {thief.public.hex()} roles={roles}")
            cluster._security = security  # the links that stand stay as they are
            await look_at_bucks(cluster, found, 0, 0, False, lambda *_: None)
            with Archive(machine, objects, ENV) as one:
                await look_at_archive(one, found)
        found.seen.add_verdict("03.v00.json", ENV, verdict_text)
        assert len(found.seen.retired) == counts
        assert ["buck0" in text for text in found.seen.troubles] == ([] if counts else [True, False])
        assert all("does not name its signer" in text for text in found.seen.troubles)
        (account,) = audit(ENV, found).verdict.accounts
        assert (account.end == RETIRED) == bool(counts)


def test_a_name_that_nobody_or_several_have_is_refused() -> None:
    web, again = (Candidate(node_key(name).node, "tailer", b"web1", 1, 9) for name in ("one", "two"))
    assert choose([web, again], again.node.hex().upper()) == again
    with pytest.raises(RetireError, match=f"may be tailer {web.node.hex()} on web1 or .*: give the node id"):
        choose([web, again], "web1")
    with pytest.raises(RetireError, match="no node is called 'web'"):
        choose([web, again], "web")


def test_a_roster_reads_back_from_a_verdict_and_what_does_not_hold_is_a_trouble() -> None:
    admin = node_key("admin")
    word = Retirement(ENV, node_key("gone").node, "tailer", b"\xff", admin.public, 1, 2, 600).signed(admin)
    seen, again = Seen(), Seen()
    seen.add("a buck", ENV, [Expected(node_key("db7").node, b"\xffdb7", 77)], [word.data, word.data[:-1] + b"?"])
    assert seen.troubles == ["a buck: a retirement that doesn't hold: not a retirement: the signature does not fit"]
    again.add_verdict("03.v00.json", ENV, json.dumps(seen.document()).encode())
    assert (again.expected, again.retired, again.troubles) == (seen.expected, {word.data: word}, [])
    for text in (b"{}", b"[", b'{"roster": [{"tailer": "zz"}], "retired": []}', b'{"roster": [], "retired": [7]}'):
        damaged = Seen()
        damaged.add_verdict("03.v00.json", ENV, text)
        assert len(damaged.troubles) == 1
