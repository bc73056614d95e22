"""Command lines as people write them for tensorflow_model_server: they start, or are refused with words."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from slipway_client.errors import UsageError
from slipway_server import __main__, __version__, command_line, flags
from slipway_server.flags import Flags, Treatment

ROOT = Path(__file__).parents[3]
SERVED = "--port=8500 --rest_api_port=8501 --model_name=m --model_base_path=/models/m"
# Each is to start; behind it what the log tells of as without effect.
STARTING = {
    SERVED: "",
    "--port=9000 --model_base_path=file:///models/m": "",
    "--rest_api_port=8501 --model_config_file=/models/models.config": "",
    "--model_config_file=/models/models.config --model_config_file_poll_wait_seconds=60": "",
    "--model_config_file=/c --allow_version_labels_for_unavailable_models=true": "",
    f"{SERVED} --file_system_poll_wait_seconds=5": "",
    f"{SERVED} --file_system_poll_wait_seconds=0 --flush_filesystem_caches=false": "flush_filesystem_caches",
    f"{SERVED} --tensorflow_session_parallelism=4": "tensorflow_session_parallelism",
    f"{SERVED} --tensorflow_intra_op_parallelism=8 --tensorflow_inter_op_parallelism=8": (
        "tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism"
    ),
    f"{SERVED} --rest_api_num_threads=64": "rest_api_num_threads",
    f"{SERVED} --rest_api_timeout_in_ms=60000": "rest_api_timeout_in_ms",
    f"{SERVED} --rest_api_enable_cors_support": "",
    f"{SERVED} --enable_batching --batching_parameters_file=/models/batching.config": "",
    f"{SERVED} --enable_batching=true --enable_per_model_batching_parameters=true": "",
    f"{SERVED} --enable_model_warmup=false": "",
    f"{SERVED} --enable_model_warmup=true --num_request_iterations_for_warmup=10": "",
    f"{SERVED} --max_num_load_retries=0 --load_retry_interval_micros=-1": (
        "max_num_load_retries load_retry_interval_micros"
    ),
    f"{SERVED} --num_load_threads=4 --num_unload_threads=2": "num_load_threads num_unload_threads",
    f"{SERVED} --grpc_max_threads=128": "grpc_max_threads",
    f"{SERVED} --grpc_channel_arguments=grpc.max_concurrent_streams=100,grpc.keepalive_time_ms=10000": "",
    f"{SERVED} --grpc_socket_path=/run/serving.sock": "",
    f"{SERVED} --ssl_config_file=/tls/ssl.config": "",
    f"{SERVED} --monitoring_config_file=/models/monitoring.config": "",
    f"{SERVED} --saved_model_tags=serve": "",
    f"{SERVED} --per_process_gpu_memory_fraction=0.5": "per_process_gpu_memory_fraction",
    f"{SERVED} --enable_grpc_healthcheck_service=true": "",
    f"{SERVED} --enable_signature_method_name_check=true": "enable_signature_method_name_check",
    f"{SERVED} --remove_unused_fields_from_bundle_metagraph=false": (
        "remove_unused_fields_from_bundle_metagraph"
    ),
    f"{SERVED} --xla_cpu_compilation_enabled": "xla_cpu_compilation_enabled",
    f"{SERVED} --xla_gpu_compilation_enabled=true": "xla_gpu_compilation_enabled",
    f"{SERVED} --enable_profiler=false": "enable_profiler",
    f"{SERVED} --skip_initialize_tpu=true": "skip_initialize_tpu",
    f"{SERVED} --num_tflite_pools=2 --num_tflite_interpreters_per_pool=1": "num_tflite_pools",
    # what is refused asks for nothing when it has its default
    f"{SERVED} --prefer_tflite_model=false --use_alts_credentials=false --platform_config_file=": "",
}
REFUSED = {
    "": "neither --model_base_path nor --model_config_file",
    f"{SERVED} --use_alts_credentials": "--ssl_config_file",
    f"{SERVED} --platform_config_file=/models/platform.config": "--batching_parameters_file",
    f"{SERVED} --tensorflow_session_config_file=/models/session.config": "leave it out",
    f"{SERVED} --thread_pool_factory_config_file=/models/pool.config": "leave it out",
    f"{SERVED} --prefer_tflite_model=true": "saved_model.pb",
    f"{SERVED} --mixed_precision=bfloat16": "export it in that precision",
    f"{SERVED} --enable_serialization_as_tensor_content": "float_val",
    f"{SERVED} --enable_model_warm_up": "did you mean --enable_model_warmup?",
    f"{SERVED} stray": "unknown argument: stray",
    **{
        f"--model_base_path={address}": f"--model_base_path={address}: a local folder is expected"
        for address in ("gs://bucket/m", "s3://bucket/m", "hdfs://name/m", "https://host/m", "viewfs://m")
    },
    "-port=1": "unknown argument: -port=1",
    "--port=abc": "--port=abc: expected a whole number",
    "--port=70000": "--port=70000: expected 0 to 65535",
    "--per_process_gpu_memory_fraction=half": "expected a number",
    "--model_name": "--model_name needs a value",
    "--enable_grpc_healthcheck_service=maybe": "expected true or false",
    "--port=0 --model_base_path=/m": "--port must not be 0",
    "--port=9 --rest_api_port=9 --model_base_path=/m": "are both 9",
    "--model_base_path=/m --monitoring_config_file=/x": "needs --rest_api_port",
    "--model_base_path=/m --reload_folders=/a,b": "--reload_folders: b is not an absolute path",
}


def parse(line: str) -> Flags:
    return command_line.parse(line.split())


@pytest.mark.parametrize(("line", "ignored"), STARTING.items(), ids=STARTING)
def test_a_line_as_people_write_it_starts(line: str, ignored: str) -> None:
    assert [flag.name for flag in command_line.without_effect(parse(line))] == ignored.split()


@pytest.mark.parametrize(("line", "words"), REFUSED.items(), ids=REFUSED)
def test_what_is_refused_exits_2_with_words(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(line.split()) == 2
    assert words in capsys.readouterr().err


def test_flags_in_every_spelling() -> None:
    read = parse(
        "--port=1 --rest_api_port 2 --model_name m --model_base_path=/m=1 --file_system_poll_wait_seconds=0 "
        "--enable_grpc_healthcheck_service"
    )
    assert read == Flags(
        port=1,
        rest_api_port=2,
        model_name="m",
        model_base_path="/m=1",
        file_system_poll_wait_seconds=0,
        enable_grpc_healthcheck_service=True,
    )
    for words, value in {
        "--enable_grpc_healthcheck_service false": False,
        "--enable_grpc_healthcheck_service true": True,
        "--enable_grpc_healthcheck_service=False": False,
        "--enable_grpc_healthcheck_service --model_name=x": True,
    }.items():
        assert parse(f"--model_base_path=/m {words}").enable_grpc_healthcheck_service is value
    assert parse("--model_base_path=/m") == Flags(model_base_path="/m")
    assert parse("--model_base_path=/m --port=1 --port=2").port == 2


def test_help_lists_every_flag_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--help"]) == 0
    told = re.findall(r"^  --(\w+)=", capsys.readouterr().out, re.M)
    assert sorted(told) == sorted(item.name for item in fields(Flags))


def test_the_version_told_is_the_distributions() -> None:
    project = tomllib.loads(
        (ROOT / "infra" / "slipway_server" / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert __version__ == project["project"]["version"]


def test_the_page_has_the_table_of_flags() -> None:
    page = (ROOT / "docs" / "model_server.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", page, re.M)
    here = {Treatment.DONE: "done", Treatment.OWN: "slipway's own"}
    assert rows == [
        (flag.name, command_line.text(flag.default), here.get(flag.treatment, flag.treatment), flag.help)
        for flag in flags.known().values()
    ]


def test_a_flag_that_is_refused_says_what_to_do_instead() -> None:
    for flag in flags.known().values():
        if flag.treatment is Treatment.REFUSED:
            with pytest.raises(UsageError) as caught:
                parse(f"{SERVED} --{flag.name}={'true' if flag.default is False else '/x'}")
            assert flag.help in caught.value.tail
            assert ": " in flag.help, "why, a colon, what to do"
