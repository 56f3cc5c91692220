"""Which lines and branches of the product's recovery a run of seeds has been through (`--coverage`).

What runs when a module is loaded, its imports and definitions, was run before: it counts as missed.
"""

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
# Where a crash, a lost answer or a failing disk is dealt with.
FILES = (
    "tailer/recover.py", "tailer/replay.py", "tailer/segments.py", "tailer/segment.py", "tailer/journal.py",
    "tailer/asking.py", "tailer/mend.py", "tailer/send.py", "tailer/sealing.py", "tailer/chain.py",
    "tailer/members.py", "tailer/former.py", "buck/volume.py", "buck/store.py", "buck/bucket.py", "buck/durable.py",
    "buck/scan.py", "buck/seals.py", "buck/reading.py", "buck/gossip.py", "porter/gather.py", "porter/archive.py",
    "porter/verdict.py", "service/keys.py",
)  # fmt: skip
DATA = Path(tempfile.gettempdir()) / f"buck-simulation-coverage-{os.getuid()}"


@contextmanager
def measured() -> Iterator[None]:
    """Measure a block in this process; `covered` adds up what all processes measured."""
    DATA.mkdir(exist_ok=True)
    include = [str(ROOT / name) for name in FILES]
    running = coverage.Coverage(
        data_file=DATA / "part", data_suffix=True, branch=True, include=include, config_file=False
    )
    running.start()
    try:
        yield
    finally:
        running.stop()
        running.save()


def covered() -> str:
    """A table, a line a file, with what was never run; what was measured is forgotten."""
    whole = coverage.Coverage(data_file=DATA / "part", branch=True, config_file=False)
    whole.combine([str(DATA)])
    text = io.StringIO()
    whole.report(file=text, show_missing=True, skip_empty=True)
    for file in DATA.iterdir():
        file.unlink()
    return text.getvalue().replace(str(ROOT) + "/", "")
