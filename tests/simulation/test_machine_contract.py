"""What a Machine promises, held against this host and against the simulated one."""

import errno
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import check_two_way_stream

from service.machine import AddressError, BusyError, Machine, RealMachine
from service.watch import CREATE, MODIFY
from tests.simulation.machine import World, simulate

Body = Callable[[Machine, str], Awaitable[None]]


@pytest.fixture(params=["real", "simulated"])
def on(request, tmp_path) -> Callable[[Body], None]:
    """Runs a body on one kind of machine, in a folder that exists and is empty."""

    def real(body: Body) -> None:
        trio.run(body, RealMachine(), str(tmp_path))

    async def scenario(world: World, body: Body) -> None:
        machine = world.machine("a")
        machine.disk.mkdirs("/data")
        await body(machine, "/data")

    return real if request.param == "real" else lambda body: simulate(1, scenario, body)


async def send_for_ever(stream: trio.abc.Stream) -> None:
    while True:
        await stream.send_all(b"x" * 100_000)


def test_what_is_appended_is_read_back(on):
    async def body(machine, folder):
        file = machine.disk.open_append(folder + "/x")
        file.write(b"one ")
        file.write(memoryview(bytearray(b"two")))
        again = machine.disk.open_append((folder + "/x").encode())
        again.write(b" three")
        assert file.size() == 13
        assert file.pread(100, 4) == b"two three"
        assert file.pread(3, 4) == b"two"
        assert file.pread(3, 50) == b""
        buffer = bytearray(20)
        assert again.pread_into(memoryview(buffer), 8) == 5
        assert buffer[:6] == b"three\0"
        await machine.disk.fsync(file)
        file.close()
        file.close()
        assert machine.disk.read_bytes(folder + "/x") == b"one two three"

    on(body)


def test_a_truncated_file_goes_on_at_its_new_end(on):
    async def body(machine, folder):
        file = machine.disk.open_new(folder + "/x")
        file.write(b"0123456789")
        file.truncate(4)
        file.write(b"ab")
        file.truncate(8)
        assert machine.disk.read_bytes(folder + "/x") == b"0123ab\0\0"

    on(body)


def test_a_new_file_must_be_new(on):
    async def body(machine, folder):
        machine.disk.open_new(folder + "/x").close()
        with pytest.raises(FileExistsError):
            machine.disk.open_new(folder + "/x")

    on(body)


def test_only_regular_files_are_read(on):
    async def body(machine, folder):
        with pytest.raises(OSError, match="regular") as caught:
            machine.disk.open_read(folder)
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(FileNotFoundError):
            machine.disk.open_read(folder + "/absent")
        machine.disk.open_new(folder + "/x").close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            machine.disk.open_read(folder + "/x").write(b"no")

    on(body)


def test_renaming_keeps_the_file_and_replaces_the_other(on):
    async def body(machine, folder):
        disk = machine.disk
        a, b = disk.open_new(folder + "/a"), disk.open_new(folder + "/b")
        a.write(b"a")
        b.write(b"b")
        disk.rename(folder + "/a", folder + "/b")
        assert disk.read_bytes(folder + "/b") == b"a"
        assert b.pread(9, 0) == b"b"
        assert a.stat().inode == disk.stat(folder + "/b").inode
        assert (a.stat().links, b.stat().links) == (1, 0)
        assert disk.listdir(folder) == ["b"]
        assert disk.listdir(folder.encode()) == [b"b"]
        disk.unlink(folder + "/b")
        with pytest.raises(FileNotFoundError):
            disk.stat(folder + "/b")
        a.write(b"!")
        assert a.pread(9, 0) == b"a!"

    on(body)


def test_folders_are_made_listed_and_removed(on):
    async def body(machine, folder):
        disk = machine.disk
        disk.mkdirs(folder + "/p/q")
        disk.mkdirs(folder + "/p/q")
        with pytest.raises(OSError, match="not empty"):
            disk.rmdir(folder + "/p")
        disk.rmdir(folder + "/p/q")
        assert disk.listdir(folder + "/p") == []
        with pytest.raises(FileNotFoundError):
            disk.listdir(folder + "/absent")
        await disk.fsync_folder(folder)

    on(body)


def test_a_look_at_a_file_tells_its_size_age_and_identity(on):
    async def body(machine, folder):
        file = machine.disk.open_new(folder + "/x", 0o600)
        file.write(b"12345")
        found = machine.disk.stat(folder + "/x")
        assert found == file.stat()
        assert found.size == 5
        assert found.mode & 0o777 == 0o600
        assert abs(found.mtime_ns - machine.time_ns()) < 5_000_000_000
        assert found.birth_ns == 0 or abs(found.birth_ns - machine.time_ns()) < 5_000_000_000
        other = machine.disk.open_new(folder + "/y").stat()
        assert (other.device, other.inode) != (found.device, found.inode)

    on(body)


def test_a_replaced_file_is_old_or_new_and_private(on):
    async def body(machine, folder):
        await machine.disk.replace(folder + "/x", b"old")
        await machine.disk.replace(folder + "/x", b"new")
        assert machine.disk.read_bytes(folder + "/x") == b"new"
        assert machine.disk.stat(folder + "/x").mode & 0o777 == 0o600
        assert machine.disk.listdir(folder) == ["x"]

    on(body)


def test_a_lock_is_held_once(on):
    async def body(machine, folder):
        lock = machine.disk.lock(folder + "/lock")
        with pytest.raises(BusyError, match=r"in use by another process \(pid \d+\)"):
            machine.disk.lock(folder + "/lock")
        lock.close()
        machine.disk.lock(folder + "/lock").close()

    on(body)


def test_space_is_what_is_there(on):
    async def body(machine, folder):
        space = machine.disk.space(folder)
        assert 0 <= space.free <= space.total

    on(body)


def test_clocks_go_forward_and_slow_calls_answer(on):
    async def body(machine, folder):
        now, wall = machine.now(), machine.time_ns()
        await trio.sleep(0.01)
        assert machine.now() >= now + 0.01
        assert machine.time_ns() > wall
        assert await machine.slow(divmod, 7, 3) == (2, 1)
        assert len(machine.entropy(32)) == 32
        assert machine.entropy(32) != machine.entropy(32)
        assert len(machine.boot_id) in (0, 16)

    on(body)


def test_a_connection_carries_bytes_both_ways(on):
    async def body(machine, folder):
        [listener] = await machine.listen("127.0.0.1", 0)
        host, port = machine.address_of(listener)
        async with await machine.connect(host, port) as near, await listener.accept() as far:
            assert machine.near(near) in ("127.0.0.1", machine.host)
            await near.send_all(b"ping")
            assert await far.receive_some(100) in (b"ping"[:n] for n in range(1, 5))
            await far.aclose()
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):  # at the second send or a later one
                await send_for_ever(near)
        await listener.aclose()
        with pytest.raises(OSError, match=r"refused|connect"):
            await machine.connect(host, port)

    on(body)


def test_streams_behave_as_trio_wants_them(on):
    async def body(machine, folder):
        [listener] = await machine.listen("127.0.0.1", 0)

        async def pair():
            near = await machine.connect(*machine.address_of(listener))
            return near, await listener.accept()

        async with listener:
            await check_two_way_stream(pair, None)

    on(body)


def test_an_address_in_use_is_said_in_one_line(on):
    async def body(machine, folder):
        [listener] = await machine.listen("127.0.0.1", 0)
        _, port = machine.address_of(listener)
        with pytest.raises(AddressError, match=rf"127\.0\.0\.1:{port} is in use"):
            await machine.listen("127.0.0.1", port)
        await listener.aclose()

    on(body)


def test_a_watch_tells_of_new_and_growing_files(on):
    async def body(machine, folder):
        watch = machine.watch()
        if watch is None:
            pytest.skip("no inotify on this host")
        number = watch.add(folder)
        assert watch.add(folder.encode()) == number
        file = machine.disk.open_new(folder + "/x")
        file.write(b"1")
        seen = {}
        with trio.fail_after(5):
            while not seen.get(b"x", 0) & MODIFY:
                for event in await watch.events():
                    assert event.watch == number
                    seen[event.name] = seen.get(event.name, 0) | event.mask
        assert seen == {b"x": CREATE | MODIFY}
        watch.remove(number)
        watch.remove(number)
        watch.close()

    on(body)
