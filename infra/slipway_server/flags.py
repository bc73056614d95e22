"""Every flag of TensorFlow Serving's tensorflow_model_server and this server's own, and what becomes of each.

The table of docs/model_server.md is held against it. How a command line is read stands in command_line.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", bool, int, float, str)


class Treatment(StrEnum):
    """What this server does about a flag."""

    DONE = "done"
    OWN = "own"  # done, and no flag of TensorFlow Serving
    IGNORED = "ignored"  # taken, told in the log, and without effect: nobody is served otherwise for it
    REFUSED = "refused"  # unless it is given its default: it would change what is served, or to whom


@dataclass(frozen=True)
class Known:
    """A flag: its default, what becomes of it, and that in words.

    lowest, highest: of a number.
    """

    name: str
    default: bool | int | float | str
    treatment: Treatment
    help: str
    lowest: int = 0
    highest: int = 2**31 - 1


def _flag(treatment: Treatment, default: T, help: str, **limits: int) -> T:
    metadata = {"treatment": treatment, "help": help, "limits": limits}
    flag: T = field(default=default, metadata=metadata)
    return flag


def done(default: T, help: str, **limits: int) -> T:
    return _flag(Treatment.DONE, default, help, **limits)


def own(default: T, help: str, **limits: int) -> T:
    return _flag(Treatment.OWN, default, help, **limits)


def ignored(default: T, help: str) -> T:
    return _flag(Treatment.IGNORED, default, help, lowest=-(2**63), highest=2**63 - 1)


def refused(default: T, help: str) -> T:
    return _flag(Treatment.REFUSED, default, help)


_WHOLE = re.compile(r"[+-]?[0-9]+")
_PORT: dict[str, int] = {"highest": 65535}
_ANY: dict[str, int] = {"lowest": -(2**31)}
_ONE_CORE = "a request is computed whole in one thread, one request on each processor"
_CPU_ONLY = "TensorFlow computes on the processor only here"


@dataclass(frozen=True)
class Flags:
    """Names and defaults are those of model_servers/main.cc in TensorFlow Serving 2.21, in its order; this
    server's own come last.
    """

    port: int = done(8500, "gRPC; upstream's 0, no gRPC, is refused", **_PORT)
    grpc_socket_path: str = done("", "gRPC on a UNIX socket too")
    rest_api_port: int = done(0, "REST; 0: not opened", **_PORT)
    rest_api_num_threads: int = ignored(0, "one event loop reads and writes; " + _ONE_CORE)
    rest_api_timeout_in_ms: int = ignored(30000, "a run that has begun is finished, however long it takes")
    rest_api_enable_cors_support: bool = done(False, "answers carry the headers that let a browser read them")
    enable_batching: bool = done(False, "requests that wait are computed together")
    allow_version_labels_for_unavailable_models: bool = done(
        False, "a new label may name a version that is not available yet"
    )
    batching_parameters_file: str = done("", "text-format BatchingParameters")
    enable_per_model_batching_parameters: bool = done(
        False, "sizes and times are those of `batching_params.pbtxt` beside each saved_model.pb"
    )
    model_config_file: str = done(
        "", "text-format ModelServerConfig: several models, `model_version_policy`, `version_labels`"
    )
    model_config_file_poll_wait_seconds: int = done(
        0,
        "seconds between looks at the config file; 0: it is read once. One that is wrong changes nothing",
        **_ANY,
    )
    model_name: str = done("default", "ignored with `--model_config_file`")
    model_base_path: str = done(
        "", "folder of the version folders, with or without `file://`; ignored with `--model_config_file`"
    )
    num_load_threads: int = ignored(0, "one version is loaded at a time, beside the requests")
    num_unload_threads: int = ignored(0, "a version is freed beside the requests, after its last")
    max_num_load_retries: int = ignored(
        5, "a version that failed is tried again whenever its files change, without end"
    )
    load_retry_interval_micros: int = ignored(60_000_000, "a version that failed waits for other files")
    file_system_poll_wait_seconds: int = done(
        1, "seconds between looks for versions; 0: once, and reload requests still work", **_ANY
    )
    flush_filesystem_caches: bool = ignored(True, "the kernel drops what it keeps of files when it must")
    tensorflow_session_parallelism: int = ignored(0, _ONE_CORE)
    tensorflow_session_config_file: str = refused(
        "", f"sessions have one configuration here ({_ONE_CORE}): leave it out"
    )
    tensorflow_intra_op_parallelism: int = ignored(0, _ONE_CORE)
    tensorflow_inter_op_parallelism: int = ignored(0, _ONE_CORE)
    use_alts_credentials: bool = refused(
        False, "ALTS works between Google's own machines: use `--ssl_config_file`"
    )
    ssl_config_file: str = done(
        "", "text-format SSLConfig: TLS for gRPC, read again when it or a file it names changes"
    )
    platform_config_file: str = refused(
        "", "there is one platform, tensorflow: use `--enable_batching` and `--batching_parameters_file`"
    )
    per_process_gpu_memory_fraction: float = ignored(0.0, _CPU_ONLY)
    saved_model_tags: str = done("serve", "comma-separated: the tags of the graph to load of a SavedModel")
    grpc_channel_arguments: str = done("", "comma-separated KEY=VALUE for gRPC's server")
    grpc_max_threads: int = ignored(0, "one event loop reads and writes; " + _ONE_CORE)
    enable_model_warmup: bool = done(True, "answer a version's recorded requests before it serves")
    num_request_iterations_for_warmup: int = done(
        0, "times that each of them is answered; below 1: once", **_ANY
    )
    version: bool = done(False, "print the versions of server and TensorFlow, and end")
    monitoring_config_file: str = done(
        "", "text-format MonitoringConfig. Without it metrics are on wherever REST is, at their usual path"
    )
    remove_unused_fields_from_bundle_metagraph: bool = ignored(True, "only the signatures are ever kept")
    prefer_tflite_model: bool = refused(
        False, "TensorFlow Lite is not there: serve the version's saved_model.pb, and leave it out"
    )
    num_tflite_pools: int = ignored(0, "TensorFlow Lite is not there")
    num_tflite_interpreters_per_pool: int = ignored(1, "TensorFlow Lite is not there")
    enable_signature_method_name_check: bool = ignored(
        False, "classify and regress look at a signature's tensors, never at its method_name"
    )
    xla_cpu_compilation_enabled: bool = ignored(False, "what a model compiles is compiled, as in TensorFlow")
    xla_gpu_compilation_enabled: bool = ignored(False, _CPU_ONLY)
    enable_profiler: bool = ignored(True, "there is no profiler service; the metrics have the times of runs")
    thread_pool_factory_config_file: str = refused(
        "", f"there are no thread pools to choose ({_ONE_CORE}): leave it out"
    )
    mixed_precision: str = refused("", "a model computes as it was exported: export it in that precision")
    skip_initialize_tpu: bool = ignored(False, _CPU_ONLY)
    enable_grpc_healthcheck_service: bool = done(False, "grpc.health.v1, Check and Watch")
    enable_serialization_as_tensor_content: bool = refused(
        False,
        "answers hold float_val, int_val, ...: read them with a client that takes both, and leave it out",
    )
    # what TensorFlow Serving has no flag for
    rest_body_limit: int = own(
        8 * 1024 * 1024,
        "bytes of a REST request's body at most, unpacked too; a body may hold a quarter as many values",
    )
    reload_folders: str = own(
        "",
        "folders, separated by commas, whose models a HandleReloadConfigRequest may name; empty: such "
        "requests are refused",
    )
    rest_ssl_config_file: str = own("", "text-format SSLConfig: TLS for REST; may be the file of gRPC")
    token_file: str = own(
        "", "bearer tokens, one a line: who has none of them is not served. Health and model status stay open"
    )
    health_port: int = own(
        0, "grpc.health.v1 alone, without TLS and tokens, for Kubernetes' probes; 0: not opened", **_PORT
    )
    grpc_reflection: bool = own(True, "tell clients such as grpcurl what the API is")
    access_log: bool = own(False, "a line of the log for each request: who asked what, code, time and bytes")
    processes: int = own(
        1,
        "processes that serve on the same ports, each with all models and its part of the memory",
        lowest=1,
        highest=64,
    )
    batching_same_bits: bool = own(
        True,
        "a request is batched only where trials gave the same bits as alone; false: batched always, and its "
        "numbers may be rounded otherwise",
    )
    enable_tracing: bool = own(
        False,
        "spans by OpenTelemetry, sent where its variables say; on too when `OTEL_TRACES_EXPORTER` or "
        "`OTEL_EXPORTER_OTLP_ENDPOINT` is given",
    )

    def channel_arguments(self) -> tuple[tuple[str, int | str], ...]:
        """The pairs of --grpc_channel_arguments; gRPC has numbers and texts.

        Raises ValueError for one that is no pair.
        """
        pairs = [word.split("=") for word in self.grpc_channel_arguments.split(",") if word]
        return tuple((key, int(value) if _WHOLE.fullmatch(value) else value) for key, value in pairs)

    def tags(self) -> tuple[str, ...]:
        """The tags of --saved_model_tags."""
        return tuple(tag for tag in self.saved_model_tags.split(",") if tag)

    def warm_ups(self) -> int:
        """How often a recorded request is answered before its version serves."""
        return max(self.num_request_iterations_for_warmup, 1) if self.enable_model_warmup else 0

    def reloadable(self) -> tuple[Path, ...]:
        """The folders of --reload_folders."""
        return tuple(Path(folder) for folder in self.reload_folders.split(",") if folder)


def known() -> dict[str, Known]:
    """Every flag by name, in the table's order."""
    found = {}
    for item in fields_of(Flags):
        facts: Any = item.metadata
        default: Any = item.default
        found[item.name] = Known(item.name, default, facts["treatment"], facts["help"], **facts["limits"])
    return found
