"""The kernel's prototype, as a floor: it finds the same columns without the real one's checks and rules.

It is built into a folder of ours, if its source and a compiler are there; else there is no floor, and a note says so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "../shared/examples/kernel_prototype.pyx"
NAME = "kernel_prototype"
BLOCK, LINES = 2 << 20, 1 << 17
BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup
made = [Extension("kernel_prototype", ["kernel_prototype.pyx"], extra_compile_args=["-O3", "-fno-strict-aliasing"])]
setup(name="kernel_prototype", script_args=["-q", "build_ext", "--inplace"], ext_modules=cythonize(made, quiet=True))
"""

Encode = Callable[[bytes], None]


def load(folder: Path) -> Encode | None:
    """Its way through a whole file, or None if it can't be had."""
    folder = folder / "prototype"
    built = sorted(folder.glob(f"{NAME}.*.so")) or _build(folder)
    if not built:
        return None
    spec = importlib.util.spec_from_file_location(NAME, built[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = module.Kernel(BLOCK, LINES)  # with its memory, which it uses again for each file

    def encode(data: bytes) -> None:
        at = 0
        while at < len(data):
            piece = memoryview(data)[at : at + BLOCK]
            at += kernel.encode(piece, 0, at + len(piece) == len(data), False)
            kernel.body()
            kernel.header()

    return encode


def _build(folder: Path) -> list[Path]:
    if not SOURCE.exists():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SOURCE.name).write_bytes(SOURCE.read_bytes())
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", BUILD], cwd=folder, env=quiet, capture_output=True, check=False)
    return sorted(folder.glob(f"{NAME}.*.so"))
