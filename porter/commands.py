"""`porter JOB`: one command a job, each safe to run twice. What a job does is in the file of its name.

Exit codes: 0 done (audit: complete), 1 not done (audit: incomplete), 2 usage or configuration, 3 done with a shortfall
that is said (audit: unknown).
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import trio

from porter import report
from porter.audit import Found, audit, look_at_bucks, sealed_and_gone
from porter.certify import certify
from porter.cluster import NobodyError
from porter.grep import Match, as_json, as_raw, as_text, grep
from porter.live import Viewer, as_live_json, as_live_text
from porter.objects import ObjectsError, open_objects
from porter.output import ClosedError, Output, OutputError
from porter.pinned import read_keys
from porter.progress import progress
from porter.reader import connect, identity, open_reader
from porter.repair import repair
from porter.retire import RetireError, retire
from porter.settings import PorterSettings
from porter.status import status, status_document, status_tables
from porter.transfer import Copied, UnknownFileError, cat, choose, generations
from porter.verdict import COMPLETE, UNKNOWN
from protocol.errors import FormatError, QueryError
from protocol.identity import NodeKey
from protocol.limits import POINT_HZ
from protocol.query import parse
from protocol.when import interval
from service.config import ConfigError, load, options
from service.keys import load_key
from service.machine import Machine
from service.run import DONE, NOT_DONE, SHORTFALL, USAGE
from service.run import run as run_process
from service.units import read_duration

if TYPE_CHECKING:
    from porter.archived import Archive

INTERRUPTED = 130
FORESEEN: dict[type[Exception], int] = {
    NobodyError: NOT_DONE,
    UnknownFileError: NOT_DONE,
    RetireError: NOT_DONE,
    FormatError: NOT_DONE,  # an archive's object that is not what it was
    QueryError: USAGE,
    ObjectsError: NOT_DONE,
    OutputError: NOT_DONE,
}

Job = Callable[[Machine, PorterSettings], Awaitable[int]]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Carry events out of the bucks: to a terminal, to a file, to the archive."""


@main.command("cat")
@click.argument("host")
@click.argument("path")
@click.option("--generation", metavar="N|last", help="Only the Nth file of this path (1 is the oldest), or the last.")
@options(PorterSettings)
def cat_command(host: str, path: str, generation: str | None, **flags: Any) -> None:
    """Write a file as it was, byte for byte: every generation seen under PATH on HOST, oldest first."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        async with open_reader(machine, settings, archive_of(machine, settings)) as reader:
            found = choose(await generations(reader, _bytes(host), _bytes(path)), generation)
            async with Output(machine, sys.stdout.buffer) as output:
                copied = await cat(reader, found, output.write)
            tailers = {span.tailer for _, one in found for span in one.spans}
            return _tell_copied(copied, reader.shortfalls(), await sealed_and_gone(reader, tailers))

    _run(job, flags)


@main.command("grep")
@click.argument("query")
@click.option("--raw", is_flag=True, help="Write the lines alone, as they were.")
@click.option("--live", is_flag=True, help="Write lines as they come in, from every buck, until Ctrl-C.")
@options(PorterSettings)
def grep_command(query: str, raw: bool, live: bool, **flags: Any) -> None:
    """Write every line that matches QUERY: words, "phrases", host: app: path: with *, /regex/, -not, OR, from: to:."""
    if live:
        _run(partial(_live, query, raw), flags, interrupted=DONE)

    async def job(machine: Machine, settings: PorterSettings) -> int:
        asked = parse(query, machine.time_ns())
        text = partial(as_text, escape=sys.stdout.isatty())
        render: Callable[[Match], bytes] = as_json if settings.json_ else as_raw if raw else text
        async with open_reader(machine, settings, archive_of(machine, settings)) as reader:
            with progress("grep", 0, machine.now) as shown:
                async with Output(machine, sys.stdout.buffer) as output:
                    await grep(reader, asked, output.write, render, shown)
            shortfalls = reader.shortfalls()
        for line in shortfalls:
            _say(line)
        return SHORTFALL if shortfalls else DONE

    _run(job, flags)


async def _live(query: str, raw: bool, machine: Machine, settings: PorterSettings) -> int:
    if raw:
        raise ConfigError("--raw: what is live comes without what was taken out of the line; there is --json")
    if not settings.reads_bucks:
        raise ConfigError("--live: nothing new comes from an archive; name a buck with --peer HOST:PORT")
    parse(query, machine.time_ns())
    key, security = await identity(machine, settings)
    viewer = Viewer(machine, settings, key, query, _say, security)
    render = as_live_json if settings.json_ else partial(as_live_text, escape=sys.stdout.isatty())
    async with Output(machine, sys.stdout.buffer) as output:
        await viewer.run(output.write, output.flush, render)
    return DONE


@main.command("audit")
@click.option("--from", "since", metavar="TIME", default="", help="Only buckets from then on: 2026-11-22T08:30, 2h.")
@click.option("--to", "until", metavar="TIME", default="", help="Only buckets before the end of that.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="Only tailers on this host; can be repeated.")
@click.option("--deep", is_flag=True, help="Fetch, decode and check every copy, instead of asking who has which.")
@click.option("--keys", metavar="FILE", help="Believe only seals and verdicts by the public keys in this file.")
@options(PorterSettings)
def audit_command(since: str, until: str, hosts: tuple[str, ...], deep: bool, keys: str | None, **flags: Any) -> None:
    """Say whether all that the tailers have sealed is there: complete, incomplete with ranges, or unknown."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        start, end = _buckets(machine, since, until)
        found = Found(keys=read_keys(machine, keys) if keys else frozenset())
        async with AsyncExitStack() as stack:
            shown = stack.enter_context(progress("audit", 0, machine.now))
            archive = archive_of(machine, settings)
            if settings.reads_bucks:  # before the archive: what they let go of meanwhile is seen there
                cluster = await stack.enter_async_context(connect(machine, settings))
                await look_at_bucks(cluster, found, start, end, deep, shown.step)
            if archive is not None:
                from porter.archive_audit import look_at_archive

                await look_at_archive(stack.enter_context(archive), found, deep)
        done = audit(settings.env, found, start, end, [_bytes(host) for host in hosts], deep)
        if settings.json_:
            report.json_line(done.document())
        else:
            report.audit_table(done)
        return NOT_DONE if done.damage else _code(done.verdict.state, bool(done.troubles))

    _run(job, flags)


@main.command("archive")
@click.option("--older", metavar="DURATION", default="48h", show_default=True, help="0s takes whatever there is now.")
@options(PorterSettings)
def archive_command(older: str, **flags: Any) -> None:
    """Write what is old enough to the archive as Parquet, read it back, and judge how complete it is."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        from porter.archive import Archiver

        if not settings.archive:
            raise ConfigError("--archive: a folder or s3://bucket/prefix is needed")
        objects, older_s = open_objects(settings.archive, endpoint=settings.endpoint), _older(older)
        async with connect(machine, settings) as cluster:
            with progress("archive", 0, machine.now) as shown:
                archiver = Archiver(machine, cluster, objects)
                done = await archiver.run(older_s, shown.step)
        return report.archived(done, archiver.troubles, as_json=settings.json_)

    _run(job, flags)


@main.command("prune")
@click.option("--older", metavar="DURATION", default="48h", show_default=True, help="0s: whatever is archived.")
@click.option("--dry-run", is_flag=True, help="Verify, say what would go, and let everything be.")
@click.option("--keys", metavar="FILE", help="Believe verdicts by the public keys in this file as our own.")
@options(PorterSettings)
def prune_command(older: str, dry_run: bool, keys: str | None, **flags: Any) -> None:
    """Let the bucks drop what is in the archive: each object is read back first, and every packet named."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        from porter.prune import prune

        if not settings.archive:
            raise ConfigError("--archive: a folder or s3://bucket/prefix is needed")
        objects, older_s = open_objects(settings.archive, endpoint=settings.endpoint), _older(older)
        trusted = read_keys(machine, keys) if keys else frozenset()
        async with connect(machine, settings) as cluster:
            with progress("prune", 0, machine.now) as shown:
                done = await prune(cluster, objects, older_s, shown.step, trusted, dry_run)
        return report.pruned(done, as_json=settings.json_, dry_run=dry_run)

    _run(job, flags)


@main.command("status")
@options(PorterSettings)
def status_command(**flags: Any) -> None:
    """Show the nodes, what they hold, how far behind the tailers are, copies and verdicts."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        async with connect(machine, settings) as cluster:
            with progress("status", 0, machine.now) as shown:
                now = await status(cluster, shown.step)
        if settings.json_:
            report.json_line(status_document(now))
        else:
            status_tables(now)
        return DONE

    _run(job, flags)


@main.command("retire")
@click.argument("node")
@options(PorterSettings)
def retire_command(node: str, **flags: Any) -> None:
    """Say that NODE (a node id, or a host's name) is gone for good: nobody waits for it. Needs an admin's key."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        async with connect(machine, settings, "admin") as cluster:
            done = await retire(cluster, node)
        return report.retired(done, as_json=settings.json_)

    _run(job, flags)


@main.command("key")
@options(PorterSettings)
def key_command(**flags: Any) -> None:
    """Print this node's id and public key; make the key if there is none yet."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        found = NodeKey.from_seed((await load_key(machine, settings.key)).seed)
        click.echo(f"node {found.node.hex()} public {found.public.hex()}")
        return DONE

    _run(job, flags)


@main.command("certify")
@click.argument("public")
@click.option("--role", "roles", multiple=True, metavar="ROLE", required=True, help="What it may be; can be repeated.")
@click.option("--host", "hosts", multiple=True, metavar="PATTERN", help="Where: `*` and `?`; all hosts without it.")
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="How long it is good.")
@options(PorterSettings)
def certify_command(public: str, roles: tuple[str, ...], hosts: tuple[str, ...], days: int, **flags: Any) -> None:
    """Print a certificate for the node whose public key is PUBLIC, signed with --key, for its --certificate."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        signer = NodeKey.from_seed((await load_key(machine, settings.key)).seed)
        now_s = machine.time_ns() // 10**9
        try:
            click.echo(certify(signer, public, roles, hosts, settings.env, days, now_s))
        except FormatError as error:
            raise ConfigError(str(error)) from error
        return DONE

    _run(job, flags)


@main.command("repair")
@options(PorterSettings)
def repair_command(**flags: Any) -> None:
    """Bring packets that are on too few bucks back to their copies: bucks pull from bucks. Safe to cut short."""

    async def job(machine: Machine, settings: PorterSettings) -> int:
        async with connect(machine, settings) as cluster:
            with progress("repair", 0, machine.now) as shown:
                done = await repair(cluster, shown.step)
        return report.repaired(done, as_json=settings.json_)

    _run(job, flags)


def archive_of(machine: Machine, settings: PorterSettings) -> Archive | None:
    """The archive to read, if one is named. Its libraries are loaded only then."""
    if not settings.archive:
        return None
    from porter.archived import Archive

    return Archive(machine, open_objects(settings.archive, endpoint=settings.endpoint), settings.env)


def _tell_copied(copied: Copied, shortfalls: Sequence[str], gone: Sequence[str]) -> int:
    """Say what `cat` could not write."""
    for number, first, end in copied.gaps:
        _say(f"generation {number}: bytes {first} to {end} are missing")
    for number, first, end in copied.clashes:
        _say(f"generation {number}: bytes {first} to {end} were read twice with different contents: both are written")
    for number, first in copied.begins:
        _say(f"generation {number}: begins at byte {first}; what was before was not read")
    for line in (*shortfalls, *gone):
        _say(line)
    if copied.gaps:
        return (
            SHORTFALL if any(line.startswith(("not asked", "unsure", "archived")) for line in shortfalls) else NOT_DONE
        )
    return SHORTFALL if copied.clashes or shortfalls or gone else DONE


def _code(state: str, troubles: bool) -> int:
    if state == COMPLETE:
        return SHORTFALL if troubles else DONE
    return SHORTFALL if state == UNKNOWN else NOT_DONE


def _older(text: str) -> int:
    try:
        return int(read_duration(text))
    except ValueError as error:
        raise ConfigError(f"--older: {error}") from error


def _buckets(machine: Machine, since: str, until: str) -> tuple[int, int]:
    """The times of --from and --to as seconds; 0 is open."""
    start = _interval(machine, "--from", since)[0] if since else 0
    end = _interval(machine, "--to", until)[1] if until else 0
    return start // POINT_HZ, -(-end // POINT_HZ)


def _interval(machine: Machine, flag: str, text: str) -> tuple[int, int]:
    try:
        return interval(text, machine.time_ns(), 0)
    except QueryError as error:
        raise ConfigError(f"{flag}: {error.text}") from error


def _run(job: Job, flags: dict[str, Any], interrupted: int = INTERRUPTED) -> None:
    """Run a job to its end, or to the first signal: there is nothing to finish, each may simply be run again."""

    async def process(machine: Machine, stop: trio.Event) -> int:
        settings = load(PorterSettings, flags)
        code = interrupted
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at, stop, nursery.cancel_scope)
                code = await job(machine, settings)
                nursery.cancel_scope.cancel()
        except* ClosedError:
            code = DONE  # whoever reads our output has seen enough
        return code

    run_process(process, foreseen=FORESEEN)


async def _cancel_at(stop: trio.Event, scope: trio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


def _bytes(text: str) -> bytes:
    """A name as the file system has it, whatever its bytes are."""
    return text.encode("utf-8", "surrogateescape")


def _say(line: str) -> None:
    click.echo(line, err=True)
