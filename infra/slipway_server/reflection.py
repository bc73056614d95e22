"""gRPC reflection: what grpcurl and its like ask a server for, so that they need no .proto files.

Written over this project's own descriptors: the package grpcio-reflection brings generated classes, which ask
for a newer protobuf than TensorFlow's wheel can have beside it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from slipway_client import messages
from slipway_client.descriptors import Package, make_pool

from slipway_server.codes import Code, StatusError
from slipway_server.grpc_calls import guarded, parse, serialized, with_token
from slipway_server.tokens import Tokens

MOST_STREAMS = 16

_SERVING, _HEALTH = "tensorflow.serving", "grpc.health.v1"
# Clients ask by the newer name first; the messages of both are the same bytes.
_VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_REFLECTION = {
    "ServerReflectionRequest": """
        string host 1, string file_by_filename/message_request 3,
        string file_containing_symbol/message_request 4,
        ExtensionRequest file_containing_extension/message_request 5,
        string all_extension_numbers_of_type/message_request 6, string list_services/message_request 7""",
    "ExtensionRequest": "string containing_type 1, int32 extension_number 2",
    "ServerReflectionResponse": """
        string valid_host 1, ServerReflectionRequest original_request 2,
        FileDescriptorResponse file_descriptor_response/message_response 4,
        ExtensionNumberResponse all_extension_numbers_response/message_response 5,
        ListServiceResponse list_services_response/message_response 6,
        ErrorResponse error_response/message_response 7""",
    "FileDescriptorResponse": "*bytes file_descriptor_proto 1",
    "ExtensionNumberResponse": "string base_type_name 1, *int32 extension_number 2",
    "ListServiceResponse": "*ServiceResponse service 1",
    "ServiceResponse": "string name 1",
    "ErrorResponse": "int32 error_code 1, string error_message 2",
}
_Methods = Mapping[str, tuple[str, str]]  # name -> request and response, each with * when it is a stream
_SERVICES: Mapping[tuple[str, str], _Methods] = {
    (_SERVING, "PredictionService"): {
        "Classify": ("ClassificationRequest", "ClassificationResponse"),
        "Regress": ("RegressionRequest", "RegressionResponse"),
        "Predict": ("PredictRequest", "PredictResponse"),
        "MultiInference": ("MultiInferenceRequest", "MultiInferenceResponse"),
        "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse"),
    },
    (_SERVING, "ModelService"): {
        "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse"),
        "HandleReloadConfigRequest": ("ReloadConfigRequest", "ReloadConfigResponse"),
    },
    (_HEALTH, "Health"): {
        "Check": ("HealthCheckRequest", "HealthCheckResponse"),
        "Watch": ("HealthCheckRequest", "*HealthCheckResponse"),
    },
    **{
        (package, "ServerReflection"): {
            "ServerReflectionInfo": ("*ServerReflectionRequest", "*ServerReflectionResponse")
        }
        for package in _VERSIONS
    },
}


class Reflection:
    """Streams of questions and answers. They reveal the API that this server has, nothing of its models."""

    def __init__(self, health: bool) -> None:
        """health: whether the health service is one of those to name."""
        known = make_pool([Package(package, _REFLECTION, {}) for package in _VERSIONS])
        request, response = (f"{_VERSIONS[0]}.ServerReflection{end}" for end in ("Request", "Response"))
        self._request: Any = message_factory.GetMessageClass(known.FindMessageTypeByName(request))
        self._response: Any = message_factory.GetMessageClass(known.FindMessageTypeByName(response))
        self._pool = _pool(known)
        self._names = [f"{package}.{name}" for package, name in _SERVICES if health or package != _HEALTH]
        self._streams: set[Any] = set()

    def handlers(self, tokens: Tokens | None) -> list[grpc.GenericRpcHandler]:
        """tokens: one of which a client must have; None for everybody."""
        handler = grpc.stream_stream_rpc_method_handler(
            guarded(self._stream if tokens is None else with_token(tokens, self._stream))
        )
        return [
            grpc.method_handlers_generic_handler(
                f"{package}.ServerReflection", {"ServerReflectionInfo": handler}
            )
            for package in _VERSIONS
        ]

    async def end(self) -> None:
        """End the streams, which a drain would wait for."""
        for context in list(self._streams):
            with contextlib.suppress(Exception):  # abort raises, for handlers; and the client may have left
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server stops")

    async def _stream(self, requests: Any, context: Any) -> None:
        if len(self._streams) >= MOST_STREAMS:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "too many reflection streams already")
        self._streams.add(context)
        try:
            async for raw in requests:
                await context.write(serialized(self.answer(parse(self._request, raw))))
        finally:
            self._streams.discard(context)

    def answer(self, request: Any) -> Any:
        """The ServerReflectionResponse to one question."""
        response = self._response(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        try:
            match asked:
                case "list_services":
                    for name in self._names:
                        response.list_services_response.service.add(name=name)
                case "file_by_filename":
                    _add_files(response, self._pool.FindFileByName(request.file_by_filename))
                case "file_containing_symbol":
                    file = self._pool.FindFileContainingSymbol(request.file_containing_symbol)
                    _add_files(response, file)
                case "all_extension_numbers_of_type":  # proto3 has no extensions
                    name = request.all_extension_numbers_of_type
                    self._pool.FindMessageTypeByName(name)
                    response.all_extension_numbers_response.base_type_name = name
                case _:
                    raise KeyError(asked)
        except KeyError:
            response.error_response.error_code = Code.NOT_FOUND if asked else Code.INVALID_ARGUMENT
            response.error_response.error_message = "not found" if asked else "no question"
        return response


def _add_files(response: Any, file: Any) -> None:
    """A file and all that it imports, once each."""
    files = {file.name: file}
    waiting = [file]
    while waiting:
        for imported in waiting.pop().dependencies:
            if imported.name not in files:
                files[imported.name] = imported
                waiting.append(imported)
    response.file_descriptor_response.file_descriptor_proto.extend(
        one.serialized_pb for one in files.values()
    )


def _pool(reflection: Any) -> descriptor_pool.DescriptorPool:
    """The messages' descriptors and, each in a file of its own, the services'."""
    pool = descriptor_pool.DescriptorPool()
    for (package, name), methods in _SERVICES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"slipway_server/{package}/{name}", package=package, syntax="proto3"
        )
        service = file.service.add(name=name)
        known = reflection if package in _VERSIONS else messages.POOL
        for method, (request, response) in methods.items():
            service.method.add(
                name=method,
                input_type=f".{package}.{request.lstrip('*')}",
                output_type=f".{package}.{response.lstrip('*')}",
                client_streaming=request.startswith("*"),
                server_streaming=response.startswith("*"),
            )
            origin = known.FindFileContainingSymbol(f"{package}.{request.lstrip('*')}")
        _copy(pool, origin)
        file.dependency.append(origin.name)
        pool.Add(file)
    return pool


def _copy(pool: descriptor_pool.DescriptorPool, file: Any) -> None:
    """Add a file to a pool, those it imports before it."""
    for imported in file.dependencies:
        _copy(pool, imported)
    pool.AddSerializedFile(file.serialized_pb)
