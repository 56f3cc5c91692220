"""Fault points do nothing until armed, and then exactly what was asked, once."""

import ast
import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service import faults

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "service", "tailer", "buck", "porter")


def test_an_unarmed_point_does_nothing():
    faults.faultpoint("a.b.c")


def test_the_nth_pass_fails_once():
    with faults.armed("a.b.c", nth=2):
        faults.faultpoint("a.b.c")
        faults.faultpoint("a.b.other")
        with pytest.raises(OSError, match="injected"):
            faults.faultpoint("a.b.c")
        faults.faultpoint("a.b.c")
    faults.faultpoint("a.b.c")


def test_several_points_may_be_armed_and_end_in_any_order():
    with contextlib.ExitStack() as second:
        with faults.armed("a.b.c"):
            second.enter_context(faults.armed("a.b.d"))
            with pytest.raises(OSError, match="injected"):
                faults.faultpoint("a.b.c")
        faults.faultpoint("a.b.c")
        with pytest.raises(OSError, match="injected"):
            faults.faultpoint("a.b.d")
    faults.faultpoint("a.b.d")


def run(fault: str) -> subprocess.CompletedProcess[bytes]:
    code = "from service.faults import faultpoint as f; f('a.b.c'); print('one', flush=True); f('a.b.c'); print('two')"
    environ = {"BUCK_FAULT": fault, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("fault", "code", "out"),
    [
        ("", 0, b"one\ntwo\n"),
        ("a.b.x", 0, b"one\ntwo\n"),
        ("a.b.c", -signal.SIGKILL, b""),
        ("a.b.c:2:kill", -signal.SIGKILL, b"one\n"),
        ("a.b.c:2:raise", 1, b"one\n"),
        ("a.b.c:2:sleep", 0, b"one\ntwo\n"),
        ("a.b.c:0", 1, b""),
        ("a.b.c:often", 1, b""),
    ],
)
def test_the_environment_arms_one_point(fault, code, out):
    done = run(fault)
    assert (done.returncode, done.stdout) == (code, out)


def called() -> list[str]:
    names = []
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "faultpoint":
                assert isinstance(node.args[0], ast.Constant), f"{path}: a fault point's name is a plain string"
                names.append(str(node.args[0].value))
    return names


def test_the_registry_names_every_fault_point_once():
    names = called()
    assert sorted(names) == sorted(faults.NAMES)
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+\.[a-z_0-9]+", name) for name in names)
