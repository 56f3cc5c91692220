"""Settings come from a file, the environment and flags; mistakes are told all at once, each with its place."""

from typing import Literal

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, model_validator

from service.config import ConfigError, Settings, load, options
from service.units import Address, Duration, EnvName, HostPort, Size


class Rule(Settings):
    path: str


class Example(Settings):
    width: Duration = Field(300.0, description="Seconds in a bucket.")
    listen: HostPort = Field(Address("127.0.0.1", 7000), description="Where to listen.")
    disk: tuple[str, ...] = Field((), description="A folder; may be repeated.")
    to: tuple[HostPort, ...] = Field((), description="Bucks.")
    start: Literal["head", "end"] = Field("end", alias="from", description="Where to begin.")
    insecure: bool = Field(False, description="Without encryption.")
    memory: Size = Field(512_000_000, description="Memory to use.")
    key: str | None = Field(None, description="The key file.")
    rules: tuple[Rule, ...] = Field((), description="Only in the file.")


def write(tmp_path, text):
    path = tmp_path / "x.toml"
    path.write_text(text)
    return str(path)


def test_the_file_fills_the_class(tmp_path):
    path = write(tmp_path, 'width = "10m"\nfrom = "head"\ndisk = ["/a", "/b"]\nrules = [{path = "x"}]\nmemory = 5')
    found = load(Example, {"config": path}, environ={})
    assert (found.width, found.start, found.disk, found.rules, found.memory) == (
        600.0,
        "head",
        ("/a", "/b"),
        (Rule(path="x"),),
        5,
    )


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path):
    path = write(tmp_path, 'width = 1\nlisten = "a:1"\nkey = "file"')
    environ = {
        "BUCK_WIDTH": "2s",
        "BUCK_LISTEN": "b:2",
        "BUCK_TO": "c:3,[::1]:4",
        "BUCK_FROM": "head",
        "BUCK_FAULT": "x",
    }
    found = load(Example, {"config": path, "width": "3s", "disk": (), "key": None}, environ=environ)
    assert (found.width, found.listen, found.key, found.start) == (3.0, Address("b", 2), "file", "head")
    assert found.to == (Address("c", 3), Address("::1", 4))


def test_all_mistakes_are_told_with_their_places(tmp_path):
    path = write(tmp_path, 'widht = 1\nmemory = "much"\nrules = [{path = 1}]')
    with pytest.raises(ConfigError) as caught:
        load(Example, {"config": path, "to": ("nowhere",)}, environ={"BUCK_LISTEN": "::1:7"})
    assert set(str(caught.value).splitlines()) == {
        "--to.0: 'nowhere' is no HOST:PORT",
        "BUCK_LISTEN: '::1:7': write an IPv6 address in brackets: [::1]:7000",
        f"{path}: memory: 'much' is not a size such as 512MB, 8GiB",
        f"{path}: rules.0.path: 1 is no text: put it in quotes",
        f"{path}: widht: unknown; did you mean width?",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('disk = "x"', """disk: 'x' is no list: write ["...", "..."]"""),
        ("key = 4", "key: 4 is no text: put it in quotes"),
        ('from = "middle"', "from: 'middle' is not 'head' or 'end'"),
        ('insecure = "maybe"', "insecure: 'maybe' is neither true nor false"),
        ("insecure = 3", "insecure: 3 is neither true nor false"),
        ('peers = "x"', "peers: 'x' is no whole number"),
        ("peers = 1.5", "peers: 1.5 is no whole number"),
        ("peers = 0", "peers: 0 is less than 1"),
        ("peers = 10", "peers: 10 is more than 9"),
        (f'zone = "{"z" * 99}"', f"zone: '{'z' * 59}... is longer than 9 characters"),
        ("rules = [3]", "rules.0: 3 is no table"),
        ('env = "../prod"', "env: '../prod' is no name of an env: 1 to 64 letters"),
    ],
)
def test_a_value_of_another_kind_is_shown_with_what_it_should_be(tmp_path, text, words):
    class Strict(Example):
        peers: int = Field(1, ge=1, le=9)
        zone: str = Field("", max_length=9)
        env: EnvName = Field("prod")

    with pytest.raises(ConfigError) as caught:
        load(Strict, {}, config=write(tmp_path, text), environ={})
    assert words in str(caught.value)
    assert "Input should" not in str(caught.value)


@pytest.mark.parametrize("text", ["width = ", b"\xff".decode("latin-1") + "="])
def test_a_broken_file_is_one_line(tmp_path, text):
    with pytest.raises(ConfigError, match=r"x\.toml: not TOML: ") as caught:
        load(Example, {}, config=write(tmp_path, text), environ={})
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.toml: can't be read: No such file"):
        load(Example, {}, config=str(tmp_path / "absent.toml"), environ={})


def test_something_needed_says_the_ways_to_give_it():
    class Needy(Settings):
        archive_url: str

    with pytest.raises(
        ConfigError, match=r"archive_url: is needed \(--archive-url, BUCK_ARCHIVE_URL, or in the file\)"
    ):
        load(Needy, {}, environ={})


def test_a_rule_over_several_fields_speaks_for_itself():
    class Consistent(Settings):
        once: bool = False

        @model_validator(mode="after")
        def _check(self):
            raise ValueError("--once: not today")

    with pytest.raises(ConfigError, match=r"\A--once: not today\Z"):
        load(Consistent, {}, environ={})


def run(*args):
    seen = []

    @click.command()
    @options(Example)
    def command(**flags):
        seen.append(load(Example, flags, environ={}))

    result = CliRunner().invoke(command, args)
    return result, seen


def test_the_fields_are_the_flags():
    result, [found] = run(
        "--width", "48h", "--disk", "/a", "--disk", "/b", "--from", "head", "--insecure", "--key", "k"
    )
    assert result.exit_code == 0
    assert found == Example(width=48 * 3600, disk=("/a", "/b"), start="head", insecure=True, key="k")


def test_the_help_says_what_the_fields_say():
    text = " ".join(run("--help")[0].output.split())
    assert "--width DURATION Seconds in a bucket [300s]." in text
    assert "--listen HOST:PORT Where to listen [127.0.0.1:7000]." in text
    assert "--from [head|end] Where to begin [end]." in text
    assert "--to HOST:PORT Bucks." in text
    assert "--memory SIZE Memory to use [512MB]." in text
    assert "--insecure Without encryption." in text
    assert "--config FILE" in text
    assert "--rules" not in text


def test_a_wrong_choice_or_flag_ends_with_2():
    assert run("--from", "middle")[0].exit_code == 2
    assert run("--form", "end")[0].exit_code == 2
