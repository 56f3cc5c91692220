"""What this buck knows of the roster: which tailers anybody ever met, and the signed retirements.

Both only grow, so bucks bring each other up to date by asking: now and then one random peer is asked for all of it.
Whom we met is kept without a signature, since it can only make a host expected; what ends an entry is signed (a goodbye
seal, a retirement). Where there are keys, a retirement must be signed by one that the list names as an admin's: a buck
that was taken over may pass on what it likes, and ends nothing with that. One small file on every disk, replaced as a
whole: `<disk>/<env>/roster`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from buck.counts import Counts
from buck.errors import Declined
from buck.files import join
from buck.members import Members
from buck.volume import Volume
from protocol import record
from protocol.connection import Check
from protocol.errors import FormatError, ProtocolError
from protocol.limits import NAME_MAX, RETIRED_MAX, RETIREMENT_SIZE_MAX, ROSTER_MAX
from protocol.link import open_asker
from protocol.messages import Hello, Roster, RosterIs
from protocol.roster import Expected, Retirement
from service.log import get_log
from service.machine import Machine
from service.units import read_address

if TYPE_CHECKING:
    from protocol.secure import Security

log = get_log("buck.roster")

SAVE_EVERY_S = 1.0
ASK_EVERY_S = 15.0
ASK_S = 10.0
EXPECTED_SIZE = NAME_MAX + 32


class RosterStore:
    """The roster of one node, in memory and on its disks. `retire_buck` is told of each buck that is retired."""

    def __init__(
        self, machine: Machine, volumes: Sequence[Volume], env: str, counts: Counts, security: "Security | None" = None
    ) -> None:
        self._machine = machine
        self._volumes = volumes
        self._env = env
        self._counts = counts
        self._security = security
        self.expected: dict[bytes, Expected] = {}
        self.retired: dict[bytes, Retirement] = {}  # by their signed form
        self.retire_buck: Callable[[bytes], None] = lambda node: None
        self._dirty = False
        self._saving = trio.Lock()

    def load(self) -> None:
        """Read what the disks have, united. A file that is not good is named: the other bucks will tell it again."""
        for volume in self._volumes:
            path = join(volume.folder, "roster")
            try:
                value = record.read_record(self._machine.disk.read_bytes(path))
                if not isinstance(value, list) or len(value) != 2:
                    raise FormatError("a roster of another shape")
                self._merge([Expected(*row) for row in value[0]], ())
                self._add_retired(value[1], self._is_revoked)
            except FileNotFoundError:
                continue
            except (OSError, FormatError, TypeError, ValueError) as error:
                log.warning("a roster can't be read; it is learnt anew", path=path, why=str(error))
        self._dirty = False

    def meet(self, tailer: bytes, host: bytes) -> None:
        """A tailer has brought something. Cheap: it is called for each packet."""
        if tailer not in self.expected:
            self._merge([Expected(tailer, host, self._machine.time_ns() // 10**9)], ())

    async def retire(self, retirement: Retirement) -> None:
        """Keep a retirement; when this returns it is on a device. Declined if it isn't of here, or there is no room."""
        if retirement.env != self._env:
            raise Declined("env", f"this buck keeps {self._env!r}, the retirement is of {retirement.env!r}")
        if self._is_no_admin(retirement):
            raise Declined("role", "a retirement is signed by a key that authorized_keys names, with roles=admin")
        if len(self.retired) >= RETIRED_MAX and retirement.data not in self.retired:
            raise Declined("full", f"{RETIRED_MAX} nodes are retired already")
        self._merge((), [retirement.data])
        if not await self.save():
            raise Declined("full", "no disk takes the roster")

    def answer(self, question: Roster) -> RosterIs:
        """What is known."""
        expected = tuple(sorted(self.expected.values())) if question.expected else ()
        return RosterIs(question.ask, expected, tuple(sorted(self.retired)))

    def size(self, question: Roster) -> int:
        """What that weighs at most."""
        return len(self.retired) * RETIREMENT_SIZE_MAX + question.expected * len(self.expected) * EXPECTED_SIZE

    async def save(self) -> bool:
        """Write what is new to every disk that is well. False if none took it."""
        async with self._saving:
            self._dirty = False
            data = record.encode_record([[list(one) for one in self.expected.values()], list(self.retired)])
            saved = False
            for volume in self._volumes:
                if volume.able:
                    try:
                        await self._machine.disk.replace(join(volume.folder, "roster"), data, mode=0o640)
                        saved = True
                    except OSError as error:
                        volume.trouble(error)
            self._dirty = self._dirty or not saved
            return saved

    async def run(self, members: Members, hello: Callable[[], Hello], check: Check) -> None:
        """Save what was met, and ask the others now and then. Never ends."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._save_again_and_again)
            while True:
                await self._ask(members, hello(), check)
                await trio.sleep(ASK_EVERY_S * self._machine.random.uniform(0.8, 1.2))

    async def _save_again_and_again(self) -> None:
        while True:
            await trio.sleep(SAVE_EVERY_S)
            if self._dirty:
                await self.save()

    async def _ask(self, members: Members, hello: Hello, check: Check) -> None:
        peers = [peer.address for peer in members.view()[1:]]
        if not peers:
            return
        address, security = self._machine.random.choice(sorted(peers)), self._security
        try:
            with trio.fail_after(ASK_S):
                stream = await self._machine.connect(*read_address(address))
                async with open_asker(stream, hello, timeout_s=ASK_S, check=check, security=security) as asker:
                    answer = await asker.ask(Roster(0, True))
                    if isinstance(answer, RosterIs):
                        self._merge(answer.expected, answer.retired)
        except (ProtocolError, trio.TooSlowError, OSError, ValueError) as error:
            log.debug("a peer tells no roster", address=address, why=str(error) or type(error).__name__)

    def _merge(self, expected: Sequence[Expected], retired: Sequence[bytes]) -> None:
        """Take in what is new: the earliest meeting of each tailer, and every retirement that holds."""
        for one in expected:
            known = self.expected.get(one.tailer)
            if known is None and len(self.expected) >= ROSTER_MAX:
                self._counts.roster_full.inc()
            elif known is None or one.since < known.since:
                self.expected[one.tailer] = Expected(*one)
                self._dirty = True
        self._add_retired(retired, self._is_no_admin)

    def _add_retired(self, retired: Sequence[bytes], is_wrong: Callable[[Retirement], bool]) -> None:
        for data in retired:
            if data not in self.retired and len(self.retired) < RETIRED_MAX:
                self._take(bytes(data), is_wrong)

    def _is_no_admin(self, retirement: Retirement) -> bool:
        return self._security is not None and not self._security.trust.lists(retirement.public, "admin")

    def _is_revoked(self, retirement: Retirement) -> bool:
        """What was taken once stays when its admin has left; what a stolen key signed doesn't, once that is known."""
        return self._security is not None and retirement.public in self._security.trust.revoked

    def _take(self, data: bytes, is_wrong: Callable[[Retirement], bool]) -> None:
        try:
            retirement = Retirement.read(data)
        except FormatError as error:
            log.warning("a retirement that doesn't hold is left", why=str(error))
            return
        if retirement.env != self._env:
            return
        who = {"node": retirement.node.hex(), "role": retirement.role, "by": retirement.public.hex()}
        if is_wrong(retirement):
            self._counts.no_admin.inc()
            log.error("ALARM: a retirement that no admin of the list has signed; it is not kept", **who)
            return
        self.retired[data] = retirement
        self._dirty = True
        log.warning("a node is retired", host=retirement.host.decode("utf-8", "backslashreplace"), **who)
        if retirement.role == "buck":
            self.retire_buck(retirement.node)

    def check(self) -> None:
        """Invariants."""
        assert len(self.expected) <= ROSTER_MAX
        assert len(self.retired) <= RETIRED_MAX
        assert all(tailer == one.tailer for tailer, one in self.expected.items())
        assert all(data == one.data for data, one in self.retired.items())
