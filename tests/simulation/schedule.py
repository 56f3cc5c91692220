"""Which faults a seed has, when, and whom they befall: drawn within what the promises cover.

Rot (bits, sectors) befalls one buck only. A disk that fails or forgets what it synced, and death for ever, befall one
other at most: with both, more than two copies of a packet could be gone at once, which no class promises to survive.
Everything else may befall anybody, overlapping as it likes.
"""

import random
from collections.abc import Callable

from service.faults import NAMES
from tests.simulation.cluster import Shape
from tests.simulation.faults import Fault

FAULTS = (6, 11)
KINDS_MIN = 3
GONE = 0.15  # in so many seeds a buck dies for ever
# Moments that a simulated cluster passes; those of a porter's run are rarer.
MOMENTS = sorted(NAMES)


class Draw:
    """One seed's dice, and the hosts they choose from."""

    def __init__(self, rng: random.Random, shape: Shape) -> None:
        self.rng = rng
        self.bucks = [f"b{number}" for number in range(1, shape.bucks + 1)]
        self.tailers = [f"t{number}" for number in range(1, shape.tailers + 1)]
        self.disks = shape.disks
        self.rotten, self.failing = rng.sample(self.bucks, 2)

    @property
    def anybody(self) -> str:
        return self.rng.choice([*self.bucks, *self.bucks, *self.tailers, "p1"])

    def some(self, names: list[str]) -> tuple[str, ...]:
        return tuple(self.rng.sample(names, self.rng.randint(1, len(names))))

    def length(self, low: float, high: float) -> float:
        return round(self.rng.uniform(low, high), 2)


def draw(rng: random.Random, shape: Shape, until: float) -> list[Fault]:
    """The schedule of one seed, in order of time; the first fault may come with the very start."""
    dice = Draw(rng, shape)
    count = rng.randint(*FAULTS)
    kinds = rng.sample(OFTEN, KINDS_MIN)
    kinds += rng.choices(OFTEN, k=count - KINDS_MIN)
    kinds += ["gone"] * (rng.random() < GONE)
    found = [DRAWS[kind](dice, round(rng.uniform(0.0, until - 3.0), 2))._replace(kind=kind) for kind in kinds]
    return sorted(found, key=lambda fault: (fault.at, fault.kind))


def _kill(dice: Draw, at: float) -> Fault:
    return Fault(at, "kill", (dice.anybody,), dice.length(0.1, 20.0))


def _kill_all(dice: Draw, at: float) -> Fault:
    return Fault(at, "kill", tuple(dice.bucks), dice.length(0.1, 15.0))


def _power(dice: Draw, at: float) -> Fault:
    return Fault(at, "power", (dice.anybody,), dice.length(0.5, 30.0))


def _power_all(dice: Draw, at: float) -> Fault:
    return Fault(at, "power", tuple(dice.bucks), dice.length(0.5, 20.0))


def _gone(dice: Draw, at: float) -> Fault:
    return Fault(at, "gone", (dice.failing,), 0.0)


def _restart(dice: Draw, at: float) -> Fault:
    return Fault(at, "restart", dice.some(dice.bucks + dice.tailers)[:3], 0.0)


def _stop(dice: Draw, at: float) -> Fault:
    return Fault(at, "stop", (dice.anybody,), dice.length(2.0, 60.0))


def _kill_at(dice: Draw, at: float) -> Fault:
    return Fault(at, "kill_at", (), 30.0, f"{dice.rng.choice(MOMENTS)}:{dice.rng.randint(1, 4)}")


def _isolate(dice: Draw, at: float) -> Fault:
    one = dice.anybody
    others = [name for name in (*dice.bucks, *dice.tailers) if name != one]
    return _cut(dice, at, [(one, other) for other in others])


def _split(dice: Draw, at: float) -> Fault:
    """Two halves; sometimes one buck is a bridge between them."""
    names = [*dice.bucks, *dice.tailers]
    dice.rng.shuffle(names)
    bridge = {dice.rng.choice(dice.bucks)} if dice.rng.random() < 0.3 else set()
    middle = dice.rng.randint(1, len(names) - 1)
    near, far = set(names[:middle]) - bridge, set(names[middle:]) - bridge
    return _cut(dice, at, [(a, b) for a in sorted(near) for b in sorted(far)])


def _ring(dice: Draw, at: float) -> Fault:
    """Each buck reaches its two neighbours only."""
    count = len(dice.bucks)
    apart = [(i, j) for i in range(count) for j in range(i) if (i - j) % count not in (1, count - 1)]
    return _cut(dice, at, [(dice.bucks[i], dice.bucks[j]) for i, j in apart] or [(dice.bucks[0], dice.bucks[1])])


def _one_way(dice: Draw, at: float) -> Fault:
    a, b = dice.rng.sample([*dice.bucks, *dice.tailers], 2)
    return Fault(at, "cut", (), dice.length(1.0, 50.0), f"{a}>{b}")


def _pair(dice: Draw, at: float) -> Fault:
    """One tailer can't reach most bucks."""
    tailer, left = dice.rng.choice(dice.tailers), dice.rng.randint(0, 1)
    return _cut(dice, at, [(tailer, buck) for buck in dice.rng.sample(dice.bucks, len(dice.bucks) - left)])


def _cut(dice: Draw, at: float, pairs: list[tuple[str, str]]) -> Fault:
    return Fault(at, "cut", (), dice.length(1.0, 50.0), " ".join(f"{a}>{b} {b}>{a}" for a, b in pairs))


def _reset(dice: Draw, at: float) -> Fault:
    return Fault(at, "reset", (dice.anybody,), 0.0)


def _slow(dice: Draw, at: float) -> Fault:
    return Fault(at, "slow", (dice.anybody,), dice.length(2.0, 30.0), dice.rng.choice((1_000, 20_000)))


def _lag(dice: Draw, at: float) -> Fault:
    return Fault(at, "lag", (dice.anybody,), dice.length(2.0, 30.0), dice.rng.choice((0.2, 2.0)))


def _fsync_fails(dice: Draw, at: float) -> Fault:
    who = dice.rng.choice((dice.failing, dice.rng.choice(dice.tailers)))
    return Fault(at, "fsync_fails", (who,), dice.length(10.0, 30.0))


def _disk_fails(dice: Draw, at: float) -> Fault:
    which = f"/disk{dice.rng.randrange(dice.disks)}"
    return Fault(
        at, "disk_fails", (dice.failing,), dice.length(1.0, 30.0), f"{dice.rng.choice(('write', 'read'))} {which}"
    )


def _full(dice: Draw, at: float) -> Fault:
    who = dice.rng.choice((dice.some(dice.bucks), (dice.rng.choice(dice.tailers),), tuple(dice.bucks)))
    return Fault(at, "full", who, dice.length(2.0, 30.0), dice.rng.choice((0, 1_000, 10_000)))


def _slow_disk(dice: Draw, at: float) -> Fault:
    return Fault(at, "slow_disk", (dice.anybody,), dice.length(5.0, 40.0), dice.rng.choice((0.5, 3.0, 12.0)))


def _rot(dice: Draw, at: float) -> Fault:
    return Fault(at, "rot", (dice.rotten,), 0.0, dice.rng.choice(("bit", "sectors")))


def _skew(dice: Draw, at: float) -> Fault:
    """An hour, or days; days seldom for a tailer, whose lines make an archive of as many hours."""
    who = dice.anybody
    far = 3 * 86_400 if who in dice.bucks or dice.rng.random() < 0.1 else 3600
    return Fault(at, "skew", (who,), dice.length(5.0, 40.0), dice.rng.choice((-far, -3600, -30, 30, 3600, far)))


def _jumps(dice: Draw, at: float) -> Fault:
    return Fault(at, "jumps", (dice.anybody,), dice.length(3.0, 20.0))


DRAWS: dict[str, Callable[[Draw, float], Fault]] = {
    "kill": _kill,
    "kill_all": _kill_all,
    "power": _power,
    "power_all": _power_all,
    "gone": _gone,
    "restart": _restart,
    "stop": _stop,
    "kill_at": _kill_at,
    "isolate": _isolate,
    "split": _split,
    "ring": _ring,
    "one_way": _one_way,
    "pair": _pair,
    "reset": _reset,
    "slow": _slow,
    "lag": _lag,
    "fsync_fails": _fsync_fails,
    "disk_fails": _disk_fails,
    "full": _full,
    "slow_disk": _slow_disk,
    "rot": _rot,
    "skew": _skew,
    "jumps": _jumps,
}
OFTEN = sorted(set(DRAWS) - {"gone"})
