"""What an audit learns from the archive alone: offline, from its objects, by anyone with the public keys.

    footers     which packets there are, and the seals that state them: held against each other by `verdict.py`
    seals       each one's signature; the chain is `verdict.py`'s
    verdicts    each one's signature; the parts, seals and verdicts that they name must be there, and be those
    rows        with `deep`: every part is read whole, its digest is that of the verdict, and its rows give what the
                seals state (`proof.py`)

Whatever is not so is named, as closely as it can be told. What nobody can tell from an archive is whether its very last
objects were taken away: every other one is named by a later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from porter.archived import Archive
from porter.audit import Found
from porter.catalog import HOUR_S, PartName
from porter.damage import Damage
from porter.document import Document, opened
from porter.footer import Footer, held_by_bucket
from porter.proof import damage_of
from porter.signed import Signed
from protocol.errors import FormatError
from protocol.packet import Key
from protocol.ranges import Ranges
from protocol.seal import Seal

__all__ = ["look_at_archive"]


@dataclass
class _Hour:
    """The objects of one hour, as far as they can be read."""

    parts: dict[PartName, Footer | None] = field(default_factory=dict)
    verdicts: dict[PartName, Document | None] = field(default_factory=dict)
    seals: dict[bytes, dict[int, Seal]] = field(default_factory=dict)


async def look_at_archive(archive: Archive, found: Found, deep: bool = False) -> None:
    """Add what the archive says.

    An hour that is archived is over: whoever has not stated it to its end has been silent.
    """
    found.offline = True
    due = 0
    hours: defaultdict[int, _Hour] = defaultdict(_Hour)
    seals: dict[bytes, Seal] = {}
    for name in await archive.everything():
        hour = hours[name.hour]
        if name.kind == "v":
            hour.verdicts[name] = await _verdict(archive, name, found)
        else:
            footer = hour.parts[name] = await _footer(archive, name, found)
            due = max(due, name.hour + HOUR_S)
            if footer is not None:
                found.coverage.add_footer(footer)
                _read_seals(str(name), footer, hour, seals, found)
    known = {seal.data for seal in found.seals}
    found.seals += [seal for data, seal in seals.items() if data not in known]
    await _Documents(archive, hours, found, deep).check()
    footers = {name: footer for hour in hours.values() for name, footer in hour.parts.items() if footer}
    signed = Signed(seals.values())
    held = held_by_bucket(footers.values())
    found.hold_all(held)
    _find_conflicts(footers.values(), signed, found)
    for name in footers if deep else ():
        async for damage in damage_of(archive, name, signed):
            found.damage.append(damage)
            found.unprove(damage)
    found.archived = {epoch: dict(buckets) for epoch, buckets in held.items()}
    found.due = found.due or due


async def _footer(archive: Archive, name: PartName, found: Found) -> Footer | None:
    try:
        return await archive.footer(name)
    except FormatError as error:
        found.damage.append(Damage(str(name), str(error).removeprefix(f"{name}: ")))
        archive.leave_out(name)
        return None


async def _verdict(archive: Archive, name: PartName, found: Found) -> Document | None:
    try:
        data = await archive.get(name)
        document = opened(str(name), data)
        if found.keys and document.porter not in found.keys:
            raise FormatError(f"{name}: signed by {document.porter.hex()}, which is not among the known keys")
        if (document.said["env"], document.said["from"]) != (name.env, name.hour):
            raise FormatError(f"{name}: it speaks of another hour, or env: was it copied?")
    except (FormatError, KeyError) as error:
        found.damage.append(Damage(str(name), str(error).removeprefix(f"{name}: ")))
        return None
    found.seen.add_verdict(str(name), name.env, data)
    return document


def _read_seals(name: str, footer: Footer, hour: _Hour, seals: dict[bytes, Seal], found: Found) -> None:
    """The seals of one part, each signature checked once."""
    for at, data in enumerate(footer.seals):
        try:
            seal = seals[data] if data in seals else Seal.read(data)
            if found.keys and seal.public not in found.keys:
                raise FormatError(f"signed by {seal.public.hex()}, which is not among the known keys")
        except FormatError as error:
            found.damage.append(Damage(name, f"seal {at} of its footer: {error}"))
            continue
        seals[data] = seal
        hour.seals.setdefault(seal.tailer, {})[seal.number] = seal


def _find_conflicts(footers: Iterable[Footer], signed: Signed, found: Found) -> None:
    """Packets of one key with several contents: two in the archive, or one that is not as its tailer has signed."""
    for footer in footers:
        seen: dict[Key, bytes] = {}
        for batch in footer.packets:
            stated = signed.contents(batch.tailer, batch.epoch, batch.bucket) if batch.contents else {}
            for number, content in batch.contents.items():
                key = Key(batch.tailer, batch.epoch, number)
                others = {content, stated.get(number, content), seen.setdefault(key, content)}
                if len(others) > 1:
                    found.clash(key, others)


class _Documents:
    """Verdicts against the objects that they name."""

    def __init__(self, archive: Archive, hours: Mapping[int, _Hour], found: Found, deep: bool) -> None:
        self._archive, self._hours, self._found, self._deep = archive, hours, found, deep
        self._named: set[str] = set()  # objects that were named already

    async def check(self) -> None:
        """All hours."""
        for hour in self._hours.values():
            for kind in (hour.parts, hour.verdicts):
                self._check_numbers(list(kind))
            for name, document in hour.verdicts.items():
                if document is not None:
                    await self._check_references(str(name), document)
            good = [name for name, document in hour.verdicts.items() if document is not None]
            if good and (last := hour.verdicts[good[-1]]) is not None:
                await self._check_parts(str(good[-1]), last, hour)
            elif hour.parts and not hour.verdicts:
                self._found.troubles.append(
                    f"{next(iter(hour.parts))}: no verdict names it: run `porter archive` again"
                )

    def _say(self, name: str, what: str) -> None:
        """Name an object once: its first trouble is nearest to the cause."""
        if name not in self._named:
            self._named.add(name)
            self._found.damage.append(Damage(name, what))

    def _check_numbers(self, names: list[PartName]) -> None:
        there = {name.number for name in names}
        for number in set(range(max(there, default=-1))) - there:
            self._say(str(names[0]._replace(number=number)), "it is not there, though later ones are")

    async def _check_references(self, name: str, document: Document) -> None:
        """The verdicts that this one names."""
        known = {str(one) for hour in self._hours.values() for one in hour.verdicts}
        for other, wanted in document.verdicts.items():
            if other not in known:
                self._say(other, f"it is not there, and {name} names it")
            elif await self._archive.digest(other) != wanted:
                self._say(other, f"not the object that {name} names")

    async def _check_parts(self, name: str, document: Document, hour: _Hour) -> None:
        """The parts and the seals that an hour's last verdict names."""
        there = {str(part): footer for part, footer in hour.parts.items()}
        named = document.parts
        for part, wanted in named.items():
            if part not in there:
                self._say(part, f"it is not there, and {name} names it")
            elif self._deep and await self._archive.digest(part) != wanted:
                self._say(part, f"not the object that {name} names")
        for part in sorted(set(there) - set(named)):
            self._found.troubles.append(f"{part}: no verdict names it: run `porter archive` again")
        if set(there) == set(named) and all(there.values()):
            self._check_seals(name, document, hour)

    def _check_seals(self, name: str, document: Document, hour: _Hour) -> None:
        """Which seals the parts carried when the verdict was written, against those that they carry now."""
        place = str(next(iter(hour.parts), name))
        named = document.seals
        for tailer in sorted(named.keys() | hour.seals.keys()):
            chain = hour.seals.get(tailer, {})
            there = Ranges((number, number + 1) for number in sorted(chain))
            wanted, last = named.get(tailer, (Ranges(), ""))
            self._seals(place, tailer, wanted - there, f"is in no part of the hour, and {name} names it")
            if wanted and wanted.last in chain and chain[wanted.last].digest.hex() != last:
                self._seals(place, tailer, Ranges([(wanted.last, wanted.last + 1)]), f"is another than {name} names")
            self._seals(place, tailer, there - wanted, f"was not there when {name} was written")

    def _seals(self, place: str, tailer: bytes, numbers: Ranges, what: str) -> None:
        """Name some seals; not one by one, for a verdict may name more than anybody can count."""
        for first, end in numbers:
            one, many = f"seal {first} of {tailer.hex()}", f"seals {first}-{end - 1} of {tailer.hex()}: each"
            self._found.damage.append(Damage(place, f"{one if end - first == 1 else many} {what}"))
