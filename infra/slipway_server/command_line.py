"""A command line as people write it for tensorflow_model_server, read into Flags."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from slipway_client.errors import UsageError

from slipway_server import flags
from slipway_server.base_path import LOCAL_WANTED, remote
from slipway_server.flags import Flags, Known, Treatment
from slipway_server.memory import MIB

_HEADINGS = {
    Treatment.DONE: "flags of TensorFlow Serving",
    Treatment.OWN: "flags that TensorFlow Serving has not",
    Treatment.IGNORED: "taken without effect, for command lines that have them",
    Treatment.REFUSED: "refused",
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def usage() -> str:
    """The flags, one a line with default and meaning."""
    lines = ["usage: slipway-model-server --model_base_path=FOLDER [flags]"]
    for treatment, heading in _HEADINGS.items():
        lines += ["", f"{heading}:"]
        for flag in flags.known().values():
            if flag.treatment is treatment:
                lines.append(f"  --{flag.name}={text(flag.default)}  {flag.help}")
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> Flags:
    """Read `--flag=value` and `--flag value`; a boolean flag alone means true. Of two the last counts.

    Raises UsageError naming the argument that is no flag, has a bad value, or is refused here.
    """
    known = flags.known()
    found: dict[str, bool | int | float | str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in known:
            raise UsageError(f"unknown argument: {word}", action=_near(name, known))
        flag = known[name]
        kind = type(flag.default)
        if not equals:
            if kind is bool and (not rest or rest[0].lower() not in _BOOLEANS):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"--{name} needs a value")
        found[name] = _READ[kind](flag, value)
        if flag.treatment is Treatment.REFUSED and found[name] != flag.default:
            raise UsageError(f"--{name} is not for this server", tail=flag.help)
    read = Flags(**found)  # type: ignore[arg-type]  # each value was read as its field's type
    if not read.version:
        _check(read)
    return read


def without_effect(read: Flags) -> list[Known]:
    """The flags that were given another value than their default, and are ignored."""
    return [
        flag
        for flag in flags.known().values()
        if flag.treatment is Treatment.IGNORED and getattr(read, flag.name) != flag.default
    ]


def text(value: bool | float | str) -> str:
    """A value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _near(name: str, known: dict[str, Known]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean --{close[0]}?" if close else "see --help for the flags this server has"


def _check(read: Flags) -> None:
    """Raise UsageError for values that do not go together."""
    if not read.model_base_path and not read.model_config_file:
        raise UsageError("neither --model_base_path nor --model_config_file is given")
    if remote(read.model_base_path) and not read.model_config_file:
        raise UsageError(f"--model_base_path={read.model_base_path}: {LOCAL_WANTED}")
    if not read.port:
        raise UsageError("--port must not be 0: gRPC is always served")
    if not MIB <= read.rest_body_limit <= 1024 * MIB:
        raise UsageError(f"--rest_body_limit={read.rest_body_limit}: expected {MIB} to {1024 * MIB}")
    ports: dict[int, str] = {}
    for name in ("port", "rest_api_port", "health_port"):
        number = getattr(read, name)
        if number in ports:
            raise UsageError(f"--{ports[number]} and --{name} are both {number}")
        if number:
            ports[number] = name
    _check_processes(read)
    try:
        read.channel_arguments()
    except ValueError:
        raise UsageError(
            f"--grpc_channel_arguments={read.grpc_channel_arguments}: expected KEY=VALUE[,KEY=VALUE]"
        ) from None
    for folder in read.reloadable():
        if not folder.is_absolute():
            raise UsageError(f"--reload_folders: {folder} is not an absolute path")
    for name in ("monitoring_config_file", "rest_ssl_config_file", "rest_api_enable_cors_support"):
        if getattr(read, name) and not read.rest_api_port:
            raise UsageError(f"--{name} needs --rest_api_port: it is about REST")


def _check_processes(read: Flags) -> None:
    """Raise UsageError for what one process has and several cannot share."""
    if read.processes > 1:
        for name, why in (
            ("grpc_socket_path", "a UNIX socket is one process's"),
            ("reload_folders", "a reload request would reach only one of them"),
        ):
            if getattr(read, name):
                raise UsageError(f"--{name} does not go with --processes={read.processes}: {why}")


def _boolean(flag: Known, value: str) -> bool:
    if value.lower() not in _BOOLEANS:
        raise UsageError(f"--{flag.name}={value}: expected true or false")
    return _BOOLEANS[value.lower()]


def _number(flag: Known, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise UsageError(f"--{flag.name}={value}: expected a whole number") from None
    if not flag.lowest <= number <= flag.highest:
        raise UsageError(f"--{flag.name}={value}: expected {flag.lowest} to {flag.highest}")
    return number


def _fraction(flag: Known, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"--{flag.name}={value}: expected a number") from None


_READ: dict[type, Callable[[Known, str], bool | int | float | str]] = {
    bool: _boolean,
    int: _number,
    float: _fraction,
    str: lambda _flag, value: value,
}
