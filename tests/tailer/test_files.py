"""Discovery: which files a sweep finds, under which name, and what it leaves alone."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.config import ConfigError
from service.machine import RealMachine
from tailer.blocks import Draft
from tailer.inputs.files import Glob, Scanner, stream_of

Hosts = Callable[..., Any]


async def found(folder: Path, *globs: str | bytes, exclude: tuple[str, ...] = ()) -> list[bytes]:
    base = str(folder).encode()
    scanner = Scanner(
        RealMachine().disk, [Glob.parse(glob, base) for glob in globs], [Glob.parse(glob, base) for glob in exclude]
    )
    sweep = await scanner.sweep()
    assert sweep.whole
    return sorted(one.path[len(base) + 1 :] for one in sweep.files.values())


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")


def put(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


async def test_T3_a_file_that_appears_later_is_read_from_its_head(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log", begin="end")
    await h.look()
    fill(tmp_path, "new.log")
    await h.settle()
    assert h.text("new.log") == b"new.log\n"


async def test_T4_a_folder_that_appears_later_is_found(host: Hosts, tmp_path: Path) -> None:
    h = host("later/deep/*.log")
    await h.look()
    fill(tmp_path, "later/deep/a.log")
    await h.settle()
    assert h.text("later/deep/a.log") == b"later/deep/a.log\n"


async def test_T5_a_temporary_name_renamed_into_place_is_read_once_from_its_head(host: Hosts, tmp_path: Path) -> None:
    h = host("*.log")
    fill(tmp_path, "a.tmp")
    await h.look()
    (tmp_path / "a.tmp").rename(tmp_path / "a.log")
    await h.settle()
    assert h.text("a.log") == b"a.tmp\n"
    assert h.read_paths() == {b"a.log"}


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        ("*.log", ["a.log", "b.log"]),
        ("[ab].log", ["a.log", "b.log"]),
        ("[!a].log", ["b.log"]),
        ("?.log", ["a.log", "b.log"]),
        ("x/*/c.log", ["x/1/c.log", "x/2/c.log"]),
        ("x/[1]/*", ["x/1/c.log", "x/1/d.txt"]),
        ("**/*.log", ["a.log", "b.log", "x/1/c.log", "x/2/c.log", "x/2/deep/er/e.log"]),
        ("x/**/e.log", ["x/2/deep/er/e.log"]),
        ("x/2/**", ["x/2/c.log", "x/2/deep/er/e.log"]),
        ("x/**/**/c.log", ["x/1/c.log", "x/2/c.log"]),
        ("./x/../a.log", ["a.log"]),
        ("nothing/*", []),
        ("a.log/*", []),
    ],
)
async def test_T6_globs(tmp_path: Path, glob: str, names: list[str]) -> None:
    fill(tmp_path, "a.log", "b.log", "x/1/c.log", "x/1/d.txt", "x/2/c.log", "x/2/deep/er/e.log")
    assert await found(tmp_path, glob) == [name.encode() for name in names]


async def test_T6_a_folder_made_within_a_tree_is_entered(host: Hosts, tmp_path: Path) -> None:
    h = host("**/*.log")
    await h.look()
    fill(tmp_path, "x/y/z/a.log")
    await h.settle()
    assert h.text("x/y/z/a.log") == b"x/y/z/a.log\n"


@pytest.mark.parametrize("pattern", ["skip/**", "skip", "**/skip/*", "**/no.log"])
async def test_T7_what_is_excluded_is_never_found(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, "a.log", "skip/no.log")
    assert await found(tmp_path, "**/*.log", exclude=(pattern,)) == [b"a.log"]


async def test_T8_any_bytes_make_a_name(host: Hosts, tmp_path: Path) -> None:
    names = [
        b"with space.log",
        b"a,b.log",
        b"new\nline.log",
        b"\xff\xfe.log",
        b"-dash.log",
        "ü.log".encode(),
        b".dot.log",
    ]
    for name in names:
        put(os.path.join(os.fsencode(tmp_path), name), b"in " + name.replace(b"\n", b"?") + b"\n")
    h = host("*.log")
    await h.settle()
    for name in names:
        assert h.text(name) == b"in " + name.replace(b"\n", b"?") + b"\n"


async def test_T10_a_file_with_several_names_is_read_once(host: Hosts, tmp_path: Path) -> None:
    fill(tmp_path, "m.log")
    os.link(tmp_path / "m.log", tmp_path / "hard.log")
    (tmp_path / "a-link.log").symlink_to("m.log")
    h = host("*.log", "m*", "**/*.log")
    await h.settle()
    assert h.events == 1
    assert h.read_paths() == {b"hard.log"}, "the first name that is no link"


async def test_T10_a_name_that_is_no_link_is_rather_taken(tmp_path: Path) -> None:
    fill(tmp_path, "m.log")
    (tmp_path / "a.log").symlink_to("m.log")
    assert await found(tmp_path, "*.log") == [b"m.log"]


async def test_T11_folders_pipes_sockets_and_devices_are_passed_over(host: Hosts, tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "pipe.log")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket.log"))
    (tmp_path / "null.log").symlink_to("/dev/null")
    (tmp_path / "status.log").symlink_to("/proc/self/status")
    fill(tmp_path, "a.log")
    h = host("*.log")
    await h.settle()
    assert h.read_paths() == {b"a.log"}


async def test_T14_without_descriptors_nothing_is_taken_for_deleted(host: Hosts, tmp_path: Path) -> None:
    fill(tmp_path, "a.log", "b.log")
    h = host("*.log")
    await h.look()
    listdir = h.machine.disk.listdir

    def refuse(path: bytes) -> list[bytes]:
        raise OSError(errno.EMFILE, "too many open files")

    h.machine.disk.listdir = refuse
    await h.settle(30)
    h.machine.disk.listdir = listdir
    (tmp_path / "a.log").write_text("a.log\nmore\n")
    await h.settle()
    assert h.known.counts["gone"] == 0
    assert h.streams("a.log") == [b"a.log\nmore\n"]


async def test_T14_files_wait_for_descriptors_and_lose_nothing(host: Hosts, tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i}.log" for i in range(20)))
    h = host("*.log")
    open_read, most = h.machine.disk.open_read, 5

    def sparing(path: bytes) -> Any:
        if h.open_now >= most:
            raise OSError(errno.EMFILE, "too many open files")
        return open_read(path)

    h.machine.disk.open_read = sparing
    await h.settle()
    assert h.known.counts["no_descriptor"] > 0
    assert all(h.text(f"{i}.log") == f"{i}.log\n".encode() for i in range(20))


async def test_T16_links_in_a_circle_end_and_a_linked_tree_is_read_once(host: Hosts, tmp_path: Path) -> None:
    fill(tmp_path, "x/y/a.log")
    (tmp_path / "x/y/back").symlink_to("../..")
    (tmp_path / "x/self").symlink_to(".")
    (tmp_path / "tree").symlink_to("x/y")
    (tmp_path / "dangling.log").symlink_to("nowhere")
    (tmp_path / "loop.log").symlink_to("loop.log")
    h = host("**/*.log")
    await h.settle()
    assert h.events == 1


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_what_can_be_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="file pattern"):
        Glob.parse(text)


def test_a_glob_says_from_which_folder_on_it_has_to_look() -> None:
    assert Glob.parse("/var/log/**/*.log").beginning() == (b"/var/log", 2)
    assert Glob.parse("/a/b").beginning() == (b"/a", 1)
    assert Glob.parse("/*").beginning() == (b"/", 0)


def test_equal_inodes_are_two_streams_by_their_births_or_else_by_their_devices() -> None:
    """Equal first lines are common; where neither births nor devices were heeded two files would be one stream."""
    keys = [(7, 100, 0), (7, 101, 0), (7, 0, 40), (7, 0, 41)]
    assert len({stream_of(key, b"#Fields: a b c\n", 0) for key in keys}) == len(keys)


@pytest.mark.parametrize("open_files", [512, 1])
async def test_sweeps_while_a_round_waits_let_go_of_each_file_once(
    host: Hosts, tmp_path: Path, open_files: int
) -> None:
    """A round waits where the journal or the bucks are slow, and sweeps go on meanwhile."""
    h = host("*", open_files=open_files)
    texts = {f"{n}": b"%d: one\n%d: two" % (n, n) for n in range(4)}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    await h.look()
    ship = h.reader._ship

    async def slow(drafts: list[Draft]) -> None:
        await ship(drafts)
        h.machine.clock += 0.5
        await h.sweep()

    h.reader._ship = slow
    for name in texts:
        (tmp_path / name).unlink()
    await h.settle()
    assert (h.known.counts["gone"], h.known.follows) == (len(texts), {})
    assert not h.reader._opened, "descriptors are counted that were given back"
    if open_files > 1:  # else they were gone before they could be opened again
        assert {name: h.text(name) for name in texts} == texts
    else:
        assert h.known.counts["lost_bytes"] == sum(len(text) for text in texts.values()) - h.reader.bytes_read


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/" + "**/a/" * 40 + "b", "/" + "a/" * 255 + "c"),
        ("/" + "**/*a*/" * 40 + "b", "/" + "aaa/" * 255 + "c"),
        ("/**/" + "*a" * 100 + "b", "/x/" + "a" * 4000),
        ("/**/" + "*" * 200 + "b", "/x/" + "a" * 4000),
        ("/**/" + "[!b]*" * 60 + "b", "/x/" + "a" * 4000),
    ],
    ids=["folders", "folders with stars", "stars", "stars in a row", "sets"],
)
def test_A18_a_pattern_that_nothing_fits_takes_no_time(pattern: str, path: str) -> None:
    begin = time.process_time()
    assert not Glob.parse(pattern).fits(path.encode())
    assert time.process_time() - begin < 1.0
