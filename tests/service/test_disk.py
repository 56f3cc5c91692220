"""What only the real disk can show: pipes and devices, locks between processes, birth times."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import statx
from service.machine import BusyError, RealMachine
from service.statx import stat_path
from service.watch import OVERFLOW, decode

ROOT = Path(__file__).parents[2]


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="not a regular file") as caught:
            RealMachine().disk.open_read(str(tmp_path / name))
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="not a regular file"):
        RealMachine().disk.open_read("/dev/zero")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "x")
    file = RealMachine().disk.open_read(bytes(tmp_path / "link"))
    assert file.pread(9, 0) == b"1"
    file.close()


def test_a_name_of_any_bytes_works(tmp_path):
    disk, path = RealMachine().disk, bytes(tmp_path) + b"/a\xff\n"
    disk.open_new(path).close()
    assert disk.listdir(bytes(tmp_path)) == [b"a\xff\n"]
    assert disk.stat(path).size == 0


def test_a_lock_holds_against_another_process_and_names_it(tmp_path):
    path = str(tmp_path / "lock")
    code = f"""
import sys; from service.machine import RealMachine
lock = RealMachine().disk.lock({path!r}); print("held", flush=True); sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=-1, stdout=-1) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"pid {process.pid}"):
            RealMachine().disk.lock(path)
        process.kill()
    RealMachine().disk.lock(path).close()


def test_statx_agrees_with_stat(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12")
    found, plain = stat_path(str(path)), os.stat(path)
    assert found[:4] == (plain.st_size, plain.st_mtime_ns, plain.st_ino, plain.st_dev)
    assert (found.mode, found.links) == (plain.st_mode, plain.st_nlink)
    (tmp_path / "link").symlink_to(path)
    assert stat_path(str(tmp_path / "link")) == found
    assert stat_path(str(tmp_path / "link"), follow=False).inode == os.lstat(tmp_path / "link").st_ino
    for absent in (str(tmp_path / "absent"), bytes(tmp_path / "absent")):
        with pytest.raises(FileNotFoundError, match="absent"):
            stat_path(absent)


def test_without_statx_the_birth_time_is_unknown(tmp_path, monkeypatch):
    full = stat_path(str(tmp_path))
    monkeypatch.setattr(statx, "_statx", None)
    assert stat_path(str(tmp_path)) == full._replace(birth_ns=0)


def test_replacing_leaves_no_temporary_file_when_it_fails(tmp_path):
    import trio

    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        trio.run(RealMachine().disk.replace, str(tmp_path / "x"), b"data")
    assert os.listdir(tmp_path) == ["x"]


def test_inotify_records_are_read_as_the_kernel_writes_them():
    data = b"".join(
        (
            watch.to_bytes(4, "little", signed=True)
            + mask.to_bytes(4, "little")
            + bytes(4)
            + len(name).to_bytes(4, "little")
        )
        + name
        for watch, mask, name in [(1, 2, b"ab\0\0"), (-1, OVERFLOW, b""), (2, 0x100, b"c" * 15 + b"\0")]
    )
    assert decode(data) == [(1, 2, b"ab"), (-1, OVERFLOW, b""), (2, 0x100, b"c" * 15)]
