"""Waits that end together.

An idle process has a handful of tasks that look at something once a second. Each wake-up costs more than what it does:
caches are cold by then. So such tasks don't wait for a second but for the next whole second of the loop's clock, and
one wake-up does for all of them. That clock begins anywhere, so the processes of a host don't beat together.
"""


def until_beat(now: float, period_s: float) -> float:
    """Seconds to the next whole multiple of a period; a period itself when it is just now."""
    return period_s - now % period_s
