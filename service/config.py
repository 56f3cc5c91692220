"""Settings: one frozen class a process; a TOML file, then the environment, then the flags fill it.

    class BuckSettings(Settings):
        width: Duration = Field(300.0, description="Seconds of time in one bucket: ...")

    @click.command()
    @options(BuckSettings)
    def run(**flags): settings = load(BuckSettings, flags)

A field is the flag `--its-name`, the key `its_name` of the file and the variable `BUCK_ITS_NAME` (an alias, for names
that Python keeps for itself, goes before the name); its description is the help. A list is a flag that can be
repeated, and in the environment separated by commas. A later source replaces an earlier one whole. All mistakes are
told at once, a line each, with where they stand: `buck.toml: widht: unknown; did you mean width?`
"""

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import click
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from service.mistakes import in_words
from service.units import Shown

PREFIX = "BUCK_"

S = TypeVar("S", bound="Settings")
F = TypeVar("F", bound=Callable[..., Any])


class ConfigError(Exception):
    """Settings, or something they name, that can't be used: one line a mistake, exit code 2."""


class Settings(BaseModel):
    """What the settings classes of all processes derive from."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Given(NamedTuple):
    value: object
    source: str  # what to call the place in a message: "buck.toml: width", "BUCK_WIDTH", "--width"


def load(
    settings: type[S],
    flags: Mapping[str, Any],
    config: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> S:
    """Read all sources. `flags` may hold the `--config` of `options`. ConfigError with every mistake."""
    config = config or flags.get("config")
    given = _from_file(config) if config else {}
    given |= _from_environment(settings, environ)
    given |= _from_flags(settings, flags)
    try:
        return settings.model_validate({name: one.value for name, one in given.items()})
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(settings, error, given))) from None


def options(settings: type[Settings]) -> Callable[[F], F]:
    """Give a click command `--config` and a flag for each field; tables live in the file alone."""

    def decorate(command: F) -> F:
        for name, field in reversed(settings.model_fields.items()):
            if _kind(field.annotation) != "table":
                command = _option(_key(name, field), name, field)(command)
        return click.option("--config", metavar="FILE", help="Settings as TOML; flags win over it.")(command)

    return decorate


def _option(key: str, name: str, field: FieldInfo) -> Callable[[F], F]:
    flag = "--" + key.replace("_", "-")
    kind = _kind(field.annotation)
    text = " ".join((field.description or "").split())
    default = _default_text(field)
    if default:
        text = f"{text.rstrip('.')} [{default}]." if text else f"[{default}]."
    if kind == "switch":
        both = f"{flag}/--no-{flag[2:]}" if field.default is True else flag
        return click.option(both, name, is_flag=True, default=None, help=text)
    if kind == "choice":
        choices = click.Choice([str(one) for one in get_args(field.annotation)])
        return click.option(flag, name, type=choices, help=text)
    return click.option(flag, name, metavar=_metavar(field), multiple=kind == "list", help=text)


def _from_file(path: str) -> dict[str, _Given]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return {key: _Given(value, f"{path}: {key}") for key, value in table.items()}


def _from_environment(settings: type[Settings], environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for name, field in settings.model_fields.items():
        key, variable = _key(name, field), PREFIX + _key(name, field).upper()
        kind = _kind(field.annotation)
        if variable in environ and kind != "table":
            text = environ[variable]
            value: object = [one for one in text.split(",") if one] if kind == "list" else text
            given[key] = _Given(value, variable)
    return given


def _from_flags(settings: type[Settings], flags: Mapping[str, Any]) -> dict[str, _Given]:
    given = {}
    for name, value in flags.items():
        if name == "config" or value is None or value == ():
            continue
        field = settings.model_fields.get(name)
        key = _key(name, field) if field else name
        given[key] = _Given(list(value) if isinstance(value, tuple) else value, "--" + key.replace("_", "-"))
    return given


def _mistakes(settings: type[Settings], error: ValidationError, given: dict[str, _Given]) -> list[str]:
    known = [_key(name, field) for name, field in settings.model_fields.items()]
    lines = []
    for mistake in error.errors(include_url=False):
        first, *rest = [str(part) for part in mistake["loc"]] or [""]
        where = ".".join([given[first].source if first in given else first, *rest])
        what = in_words(mistake)
        if mistake["type"] == "extra_forbidden":
            from difflib import get_close_matches  # not before there is a mistake: each start would pay for it

            near = get_close_matches(rest[-1] if rest else first, known, 1)
            what = "unknown; " + (f"did you mean {near[0]}?" if near else "see --help for what there is")
        elif mistake["type"] == "missing":
            what = f"is needed (--{first.replace('_', '-')}, {PREFIX}{first.upper()}, or in the file)"
        lines.append(f"{where}: {what}" if where else what)  # a rule over several fields names them itself
    return lines


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name


def _kind(annotation: Any) -> Literal["switch", "choice", "list", "table", "value"]:
    """How a field's type looks on a command line; `X | None` looks like X."""
    origin, args = get_origin(annotation), [one for one in get_args(annotation) if one is not type(None)]
    if origin in (list, tuple):
        return "table" if _kind(args[0]) == "table" else "list"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    if origin is Literal:
        return "choice"
    if origin is not None and len(args) == 1:
        return _kind(args[0])
    return "switch" if annotation is bool else "value"


def _shown(field: FieldInfo) -> Shown:
    return next((one for one in field.metadata if isinstance(one, Shown)), Shown("TEXT", str))


def _metavar(field: FieldInfo) -> str:
    plain = {int: "N", float: "X"}.get(field.annotation, "TEXT") if isinstance(field.annotation, type) else "TEXT"
    inner = getattr(next(iter(get_args(field.annotation)), None), "__metadata__", ())
    found = [one for one in (*field.metadata, *inner) if isinstance(one, Shown)]
    return found[0].metavar if found else plain


def _default_text(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=False)
    if field.is_required() or default in (None, (), [], "", False) or field.default_factory:
        return ""
    if isinstance(default, (list, tuple)) and not hasattr(default, "_fields"):
        return ", ".join(str(one) for one in default)
    return "yes" if default is True else _shown(field).text(default)
