"""The command line: TensorFlow Serving's flags, as many of them as this server has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from slipway_client.errors import UsageError

from slipway_server.memory import MIB


@dataclass(frozen=True)
class Flags:
    """Names and defaults are those of tensorflow_model_server, but for the last two, which are this
    server's own; a port of 0 is not opened.
    """

    port: int = 8500
    rest_api_port: int = 0
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    monitoring_config_file: str = ""
    file_system_poll_wait_seconds: int = 1
    enable_grpc_healthcheck_service: bool = False
    reload_folders: str = ""
    rest_body_limit: int = 8 * 1024 * 1024

    def reloadable(self) -> tuple[Path, ...]:
        """The folders of --reload_folders."""
        return tuple(Path(folder) for folder in self.reload_folders.split(",") if folder)


_HELP = {
    "port": "TCP port for gRPC; 0: not opened",
    "rest_api_port": "TCP port for REST; 0: not opened",
    "model_name": "name of the model (ignored with --model_config_file)",
    "model_base_path": "folder that holds the version folders (ignored with --model_config_file)",
    "model_config_file": "text-format ModelServerConfig: several models, version policies",
    "monitoring_config_file": "text-format MonitoringConfig: Prometheus metrics on the REST port",
    "file_system_poll_wait_seconds": "seconds between looks for new versions; 0: look once",
    "reload_folders": "folders, separated by commas, whose models HandleReloadConfigRequest may name; "
    "empty: such requests are refused",
    "rest_body_limit": "bytes of a REST request's body at most, unpacked too",
    "enable_grpc_healthcheck_service": "answer grpc.health.v1.Health",
}


def usage() -> str:
    """The flags, one a line with default and meaning."""
    lines = ["usage: slipway-model-server --model_base_path=FOLDER [flags]", "", "flags:"]
    for item in fields(Flags):
        lines.append(f"  --{item.name}={_text(item.default)}  {_HELP[item.name]}")
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> Flags:
    """Read `--flag=value` and `--flag value`; a boolean flag alone means true.

    Raises UsageError naming the argument that is not a flag of this server, or has a bad value.
    """
    kinds = {item.name: type(item.default) for item in fields(Flags)}
    found: dict[str, str | int | bool] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in kinds:
            raise UsageError(f"unknown argument: {word}", action="see --help for the flags this server has")
        kind = kinds[name]
        if not equals:
            if kind is bool and (not rest or rest[0] not in _BOOLEANS):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"--{name} needs a value")
        found[name] = _READ[kind](name, value)
    flags = Flags(**found)  # type: ignore[arg-type]  # each value was read as its field's type
    _check(flags)
    return flags


def _check(flags: Flags) -> None:
    """Raise UsageError for values that do not go together."""
    if not flags.model_base_path and not flags.model_config_file:
        raise UsageError("neither --model_base_path nor --model_config_file is given")
    if not flags.port:
        raise UsageError("--port must not be 0: gRPC is always served")
    if not MIB <= flags.rest_body_limit <= 1024 * MIB:
        raise UsageError(f"--rest_body_limit={flags.rest_body_limit}: expected {MIB} to {1024 * MIB}")
    if flags.port == flags.rest_api_port:
        raise UsageError(f"--port and --rest_api_port are both {flags.port}")
    for folder in flags.reloadable():
        if not folder.is_absolute():
            raise UsageError(f"--reload_folders: {folder} is not an absolute path")
    if flags.monitoring_config_file and not flags.rest_api_port:
        raise UsageError("--monitoring_config_file needs --rest_api_port: metrics are served there")


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in _BOOLEANS:
        raise UsageError(f"--{name}={value}: expected true or false")
    return _BOOLEANS[value.lower()]


def _number(name: str, value: str) -> int:
    try:
        number = int(value)
    except ValueError:
        raise UsageError(f"--{name}={value}: expected a whole number") from None
    highest = 65535 if name.endswith("port") else 2**31 - 1
    if not 0 <= number <= highest:
        raise UsageError(f"--{name}={value}: expected 0 to {highest}")
    return number


def _text(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


_READ: dict[type, Callable[[str, str], str | int | bool]] = {
    bool: _boolean,
    int: _number,
    str: lambda _name, value: value,
}
