"""The model and monitoring configurations, in protobuf's text format, as TensorFlow Serving reads them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from slipway_client import messages
from slipway_client.errors import UsageError
from slipway_client.messages import MODEL_TYPES

from slipway_server.base_path import LOCAL_WANTED, local_path, remote
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.model_state import ModelConfig, Policy

PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"


@dataclass(frozen=True)
class Monitoring:
    """Where the metrics are served; without a monitoring file they are."""

    enabled: bool = True
    path: str = METRICS_PATH


def parse_models(text: str, path: Path, served: Collection[str] = ()) -> list[ModelConfig]:
    """The models of a --model_config_file's text. served: names of the models there are already.

    Raises UsageError naming the file and what is wrong.
    """
    try:
        return models_of(parsed(text, path, messages.ModelServerConfig()), served)
    except StatusError as error:
        raise UsageError(error.message, where=str(path)) from error


def models_of(config: Any, served: Collection[str] = ()) -> list[ModelConfig]:
    """The models of a ModelServerConfig message. served: names of the models there are already.

    Raises StatusError with the codes and texts of model_servers/server_core.cc, in its order: each rule is
    held against all models before the next.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("ModelServer does not yet support custom model config.")
    items = list(config.model_config_list.config)
    _check_names_and_paths(items)
    for item in items:
        if item.name in served and (platform := _platform(item)) != PLATFORM:
            raise invalid(
                f"Illegal to change a model's platform. For model {item.name} platform was {PLATFORM} and "
                f"new platform requested is {platform}"
            )
    for item in items:
        if (platform := _platform(item)) != PLATFORM:
            raise invalid(f"Model {item.name} requests unsupported platform {platform}")
        if item.HasField("logging_config"):
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"model {item.name}: this server does not record requests: leave logging_config out; "
                "--access_log tells of each in the log",
            )
    return [
        ModelConfig(item.name, local_path(item.base_path), _policy(item), dict(item.version_labels))
        for item in items
    ]


def _check_names_and_paths(items: list[Any]) -> None:
    """model_servers/server_core.cc:117, ValidateModelConfigList."""
    seen = set()
    for item in items:
        if item.name in seen:
            raise invalid(f"Illegal to list model {item.name} multiple times in config list")
        seen.add(item.name)
    for item in items:
        if not item.name:
            raise invalid("a model in the config list has no name")
        if address := remote(item.base_path):
            raise invalid(f"model {item.name}: base_path {item.base_path} is in {address}: {LOCAL_WANTED}")
        if not local_path(item.base_path).is_absolute():
            raise invalid(
                f"Expected model {item.name} to have an absolute path or URI; got "
                f"base_path()={item.base_path}"
            )


def read_monitoring(path: Path) -> Monitoring:
    """A --monitoring_config_file. Raises UsageError naming the file and what is wrong."""
    config = parsed(text_of(path), path, messages.MonitoringConfig())
    prometheus = config.prometheus_config
    if prometheus.path and not prometheus.path.startswith("/"):
        raise UsageError(f"prometheus_config.path {prometheus.path!r} must begin with /", where=str(path))
    return Monitoring(prometheus.enable, prometheus.path or METRICS_PATH)


def _platform(item: Any) -> str:
    """model_servers/server_core.cc:78, GetPlatform."""
    platform: str = item.model_platform
    if item.model_type != MODEL_TYPES["MODEL_TYPE_UNSPECIFIED"]:
        if platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {item.name}"
            )
        if item.model_type != MODEL_TYPES["TENSORFLOW"]:
            raise invalid(f"ModelServerConfig::model_type choice {item.model_type} not supported.")
        platform = PLATFORM  # the older way to say the same
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {item.name}"
        )
    return platform


def _policy(item: Any) -> Policy:
    """The version policy of a ModelConfig."""
    policy = item.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return Policy("all")
        case "specific":
            return Policy("specific", versions=tuple(policy.specific.versions))
        case "latest":
            return Policy("latest", max(policy.latest.num_versions, 1))
        case _:
            return Policy()


def text_of(path: Path) -> str:
    """A configuration file's text. Raises UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read: {error}", where=str(path)) from error


def parsed(text: str, path: Path, message: Any) -> Any:
    """A text-format message of the kind given. Raises UsageError naming the file and what is wrong."""
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UsageError(f"not a text-format {message.DESCRIPTOR.name}: {error}", where=str(path)) from error
