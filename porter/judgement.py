"""The verdict of an archived hour: what is proved of it, and which objects, seals and verdicts that rests on.

A part that no verdict names yet, and that this run has not written, is proved from itself first: a run that was cut
short leaves one. A new verdict is written only if it says something new.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from porter.archived import Archive
from porter.catalog import HOUR_S, PartName, everything, of_hour
from porter.document import Document, opened, same, signed
from porter.footer import Footer, held_by_bucket
from porter.objects import Objects, digest
from porter.proof import damage_of
from porter.roster import Seen
from porter.signed import Signed
from porter.verdict import Evidence, judge
from protocol.errors import FormatError
from protocol.identity import NodeKey
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal
from service.machine import Machine

__all__ = ["Asked", "Judge", "put_small"]


@dataclass
class Asked:
    """What came to light while an hour was gathered: it goes into the verdict."""

    silent: bool = False  # some member didn't answer
    unsure: set[int] = field(default_factory=set)  # buckets of which some buck may hold more than it says
    conflicts: set[Key] = field(default_factory=set)
    quarantined: dict[Key, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of objects that were verified just now


class Judge:
    """Writes verdicts into one archive. `healed`: tailers of which no file has a hole; `seen`: who is on the roster."""

    def __init__(self, machine: Machine, objects: Objects, archive: Archive, env: str, key: NodeKey) -> None:
        self._machine, self._objects, self._archive, self._env, self._key = machine, objects, archive, env, key
        self.healed: frozenset[bytes] = frozenset()
        self.seen = Seen()
        self._last: dict[str, str] | None = None

    async def judge(self, hour: int, seals: Sequence[Seal], asked: Asked) -> str:
        """Write the hour's verdict, if it says something new; its state."""
        names = [name for name in await self._archive.parts() if name.hour == hour]
        footers = [await self._archive.footer(name) for name in names]
        facts = _contents(asked.conflicts, footers, seals), not asked.silent, hour + HOUR_S, self.healed, asked.unsure
        roster = self.seen.expected.values(), self.seen.retired.values()
        verdict = judge(self._env, Evidence(seals, held_by_bucket(footers), *facts, *roster), hour, hour + HOUR_S)
        verdicts = await self._machine.slow(of_hour, self._objects, self._env, hour, "v")
        before = await self._document(verdicts[-1]) if verdicts else None
        parts = await self._vouched(names, before.parts if before else {}, asked)
        more = {"quarantined": _quarantined(asked), "seals": _seals(footers), **self.seen.document()}
        said = verdict.document(parts=parts, **more)
        if before is None or not same(before.said, said):
            said["before"] = await self._named(verdicts[-1]) if verdicts else None
            said["after"] = await self._latest()
            name = PartName(self._env, hour, "v", len(verdicts))
            await put_small(self._machine, self._objects, str(name), signed(said, self._key))
            self._last = await self._named(name)
        return verdict.state

    async def _document(self, name: PartName) -> Document | None:
        """A verdict, or nothing where it can't be believed: then what it vouched for is proved again."""
        try:
            return opened(str(name), await self._machine.slow(self._objects.get, str(name)))
        except FormatError:
            return None  # an audit names it; a good one is written after it

    async def _latest(self) -> dict[str, str] | None:
        """The verdict that was written last, as far as is known: by this run, else that of the last hour."""
        if self._last is None:
            found = await self._machine.slow(everything, self._objects, self._env)
            verdicts = [name for name in found if name.kind == "v"]
            self._last = await self._named(verdicts[-1]) if verdicts else None
        return self._last

    async def _named(self, name: PartName) -> dict[str, str]:
        return {"name": str(name), "digest": await self._machine.slow(digest, self._objects, str(name))}

    async def _vouched(self, names: Sequence[PartName], known: Mapping[str, str], asked: Asked) -> list[dict[str, str]]:
        """The hour's objects by digest. What no verdict names yet, and isn't ours, is proved from itself first."""
        known = {**known, **asked.digests}
        for name in names:
            if str(name) not in known:
                footer = await self._archive.footer(name)
                async with aclosing(damage_of(self._archive, name, Signed(map(Seal.read, footer.seals)))) as found:
                    async for damage in found:
                        raise FormatError(f"{damage.text()}: it can't be proved: was it changed?")
                known[str(name)] = await self._machine.slow(digest, self._objects, str(name))
        return [{"name": str(name), "digest": known[str(name)]} for name in names]


async def put_small(machine: Machine, objects: Objects, name: str, data: bytes) -> None:
    """Put some bytes, if absent."""
    with tempfile.NamedTemporaryFile(prefix="buck-object-") as file:
        file.write(data)
        file.flush()
        await machine.slow(objects.put, name, Path(file.name))


def _contents(keys: Iterable[Key], footers: Sequence[Footer], seals: Iterable[Seal]) -> dict[Key, set[bytes]]:
    """What the packets of a key that has several have, as far as they are archived."""
    found: dict[Key, set[bytes]] = {key: set() for key in keys}
    if not found:
        return found
    signed = Signed(seals)
    for batch in (batch for footer in footers for batch in footer.packets):
        stated = signed.contents(batch.tailer, batch.epoch, batch.bucket)
        for key, contents in found.items():
            if key[:2] == (batch.tailer, batch.epoch) and key.number in batch.numbers:
                contents.add(batch.contents.get(key.number, stated.get(key.number, b"")))
    return found


def _seals(footers: Sequence[Footer]) -> list[dict[str, object]]:
    """Which seals these parts carry: of each tailer the numbers, and the digest of the last."""
    chains: defaultdict[bytes, dict[int, Seal]] = defaultdict(dict)
    for footer in footers:
        for seal in map(Seal.read, footer.seals):
            chains[seal.tailer][seal.number] = seal
    return [
        {
            "tailer": tailer.hex(),
            "numbers": Ranges((number, number + 1) for number in sorted(chain)).flat(),
            "last": chain[max(chain)].digest.hex(),
        }
        for tailer, chain in sorted(chains.items())
    ]


def _quarantined(asked: Asked) -> list[dict[str, object]]:
    return [
        {"tailer": key.tailer.hex(), "epoch": f"{key.epoch:x}", "number": key.number, "reason": why}
        for key, why in sorted(asked.quarantined.items())
    ]
