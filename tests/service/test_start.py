"""How processes start: quietly, also when they are stopped at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from buck.commands import main as buck
from porter.commands import main as porter
from tailer.commands import main as tailer

ROOT = Path(__file__).parents[2]
SLOW = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('still here')\n"


@pytest.mark.parametrize("command", ["buck", "tailer", "porter"])
def test_an_interrupt_while_a_command_is_loaded_ends_it_without_a_traceback(command: str, tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(SLOW)  # what each command line imports first
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from {command}.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_garbage_is_looked_for_again_when_a_command_runs_but_not_in_what_was_imported() -> None:
    code = (
        "import gc, sys, types\n"
        "module = sys.modules['command'] = types.ModuleType('command')\n"
        "module.main = lambda: print(gc.isenabled(), gc.get_freeze_count() > 0)\n"
        "from service.start import start\n"
        "start('command')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"True True\n"


@pytest.mark.parametrize("command", [buck, tailer, porter])
def test_every_command_has_a_short_help(command: object) -> None:
    for words in (["-h"], ["run", "-h"] if command is not porter else ["cat", "-h"]):
        result = CliRunner().invoke(command, words)  # type: ignore[arg-type]  # all three are groups of click
        assert result.exit_code == 0
        assert result.output.startswith("Usage: ")
