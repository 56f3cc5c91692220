"""The files that secure links: what is refused, in one line that says what to do, and what is never shown."""

import io

import pytest
import trio
from pydantic import Field

from service.authorized import Files, LinkSettings, read_files, use_again, use_files
from service.config import ConfigError, load
from service.keys import load_key
from service.log import _Sink
from service.units import Address
from tests.simulation.machine import SimMachine, World, simulate

LIST, SECRET, CERTIFICATE = "/etc/keys", "/etc/secret", "/etc/certificate"
FLAGS = {"authorized_keys": LIST, "secret_file": SECRET, "certificate": CERTIFICATE}
HIDDEN = "a secret that nobody may see"


class Example(LinkSettings):
    """Something with an address."""

    to: Address | None = Field(None, description="Where to.")


def settings(**flags: object) -> Example:
    return load(Example, flags, environ={})


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"security": "noise"}, "say who is let in with --authorized-keys FILE"),
        ({"secret_file": SECRET}, "there is no --authorized-keys"),
        ({"certificate": CERTIFICATE}, "there is no --authorized-keys"),
        ({"security": "none", "authorized_keys": LIST}, "--security none"),
        ({"security": "tls"}, "security"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings(**flags)


@pytest.mark.parametrize(
    ("flags", "encrypted"),
    [({}, False), ({"security": "none"}, False), ({"authorized_keys": LIST}, True)],
)
def test_links_are_encrypted_where_a_list_is_given(flags: dict[str, object], encrypted: bool) -> None:
    assert settings(**flags).is_encrypted is encrypted


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "::", "", "logs.example"])
def test_clear_text_is_refused_beyond_this_host(host: str) -> None:
    with pytest.raises(ValueError, match=r"name --authorized-keys FILE, or say --insecure"):
        settings().guard([Address("127.0.0.1", 1), Address(host, 7411)])
    settings(insecure=True).guard([Address(host, 7411)])
    settings(authorized_keys=LIST).guard([Address(host, 7411)])


def test_this_host_is_this_host() -> None:
    settings().guard(
        [Address("127.0.0.1", 1), Address("127.9.9.9", 1), Address("::1", 1), Address("localhost", 1), None]
    )


async def give(machine: SimMachine, **modes: int) -> None:
    """The three files, good but for these modes."""
    for path, text in ((LIST, "key ..."), (SECRET, HIDDEN + "\n"), (CERTIFICATE, "buck-certificate ...")):
        mode = 0o600 if path == SECRET else 0o644
        await machine.disk.replace(path, text.encode(), mode=modes.get(path.removeprefix("/etc/"), mode))


async def world_with_files(world: World, **modes: int) -> SimMachine:
    machine = world.machine("a")
    machine.disk.mkdirs("/etc")
    await give(machine, **modes)
    return machine


def test_all_files_are_read() -> None:
    async def scenario(world: World) -> None:
        machine = await world_with_files(world)
        assert read_files(machine, settings(**FLAGS)) == ("key ...", HIDDEN.encode(), "buck-certificate ...")

    simulate(1, scenario)


@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [
        ("secret", 0o640, "can be read by others; do: chmod 600 /etc/secret"),
        ("secret", 0o604, "can be read by others; do: chmod 600 /etc/secret"),
        ("keys", 0o664, "can be changed by others; do: chmod go-w /etc/keys"),
        ("certificate", 0o666, "can be changed by others; do: chmod go-w /etc/certificate"),
    ],
)
def test_A36_files_that_others_can_reach_are_refused(name: str, mode: int, why: str) -> None:
    async def scenario(world: World) -> None:
        machine = await world_with_files(world, **{name: mode})
        with pytest.raises(ConfigError, match=why):
            read_files(machine, settings(**FLAGS))

    simulate(1, scenario)


def test_a_missing_file_and_a_short_secret_are_named() -> None:
    async def scenario(world: World) -> None:
        machine = await world_with_files(world)
        with pytest.raises(ConfigError, match="--authorized-keys /etc/none: can't be read: No such file"):
            read_files(machine, settings(authorized_keys="/etc/none"))
        await machine.disk.replace(SECRET, b"short\n", mode=0o600)
        with pytest.raises(ConfigError, match="5 characters can be guessed; make one: openssl rand -hex 32"):
            read_files(machine, settings(**FLAGS))
        await machine.disk.replace(LIST, b"\xff\n", mode=0o600)
        with pytest.raises(ConfigError, match="/etc/keys: not UTF-8"):
            read_files(machine, settings(authorized_keys=LIST))

    simulate(1, scenario)


def test_what_cannot_be_used_is_an_error_at_the_start_and_a_line_in_the_log_later(monkeypatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr("service.log._sink", _Sink(said, "info", True, lambda: 0))

    async def scenario(world: World) -> None:
        machine = await world_with_files(world)
        used: list[str] = []
        changes: list[int] = []

        def use(authorized: str, secret: bytes, certificate: str) -> None:
            if "bad" in authorized:
                raise ValueError("authorized_keys, line 1: bad")
            used.append(authorized)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(use_again, machine, settings(**FLAGS), use, lambda: changes.append(len(used)))
            await trio.lowlevel.checkpoint()
            for text in (b"one", b"bad", b"two"):
                await machine.disk.replace(LIST, text, mode=0o644)
                machine.hang_up()
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert used == ["one", "two"]
        assert changes == [1, 2]
        await machine.disk.replace(LIST, b"bad", mode=0o644)
        with pytest.raises(ConfigError, match="line 1: bad"):
            use_files(machine, settings(**FLAGS), use)

    simulate(1, scenario)
    assert "the keys can't be read again, the old ones stay in force" in said.getvalue()
    assert HIDDEN not in said.getvalue()


def test_A36_no_secret_is_in_a_repr() -> None:
    async def scenario(world: World) -> None:
        key = await load_key(world.machine("a"), "/etc/node.key")
        assert repr(key.seed) not in repr(key)
        assert key.seed.hex() not in repr(key)
        assert repr(key.seed) not in str([key])

    simulate(1, scenario)
    assert HIDDEN not in repr(Files("", HIDDEN.encode(), ""))
    assert HIDDEN not in str([Files("", HIDDEN.encode(), "")])
