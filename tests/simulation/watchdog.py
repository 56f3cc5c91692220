"""Ends a simulation in which tasks go on and on: so many steps in one virtual second are a loop that waits for nothing.

Where no time passes at all, or hardly any, a run would never end, and nothing would say why. The watchdog counts each
step of each task, and names those that made the most of them when there are too many.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

STEPS_MAX = 150_000  # in a virtual second; seeds come to a tenth of it


class Watchdog(trio.abc.Instrument):
    """Put it among the instruments of a run, and the scenario under `watching`.

    An instrument that raises is dropped by trio with a line in a log: so this one cancels, and `watching` raises.
    """

    def __init__(self, steps_max: int = STEPS_MAX) -> None:
        self._steps_max = steps_max
        self.most = 0  # steps in the busiest second so far
        self._second, self._steps = -1, 0
        self._names: Counter[str] = Counter()
        self._scope = trio.CancelScope()
        self._found = ""

    def before_io_wait(self, timeout: float) -> None:
        second = int(trio.current_time())
        if second != self._second:
            self.most = max(self.most, self._steps)
            self._second, self._steps = second, 0
            self._names.clear()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps += 1
        if self._steps > self._steps_max // 2:
            self._names[task.name] += 1
            if self._steps > self._steps_max and not self._found:
                busiest = ", ".join(f"{name} ({count})" for name, count in self._names.most_common(3))
                self._found = f"{self._steps} steps of tasks in second {self._second}, most of them by {busiest}"
                self._scope.cancel()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """AssertionError, with the tasks' names, as soon as there are too many steps."""
        with self._scope:
            yield
        if self._found:
            raise AssertionError(self._found)
