"""`pulumi up`: read the stack's configuration, build a ModelServer for each model, export their names."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.runtime.config import get_config_env
from slipway_stacks import outputs, several
from slipway_stacks.args import ModelServerArgs
from slipway_stacks.kinds import InputsError
from slipway_stacks.model_server import ModelServer

PREFIX = f"{outputs.PROJECT}:"

try:
    # the whole bag, not key by key: a misspelt key is an error, not a silent default
    models = several.read_each(
        {key.removeprefix(PREFIX): value for key, value in get_config_env().items() if key.startswith(PREFIX)}
    )
except InputsError as error:
    raise pulumi.RunError(str(error)) from error


def told(server: ModelServer) -> dict[str, Any]:
    """What a stack says of a model server."""
    return {
        "namespace": server.namespace,
        "deployment": server.deployment_name,
        "service": server.service_name,
        "replicas": server.replicas_name,
        "grpcPort": outputs.GRPC_PORT,
        "restPort": outputs.REST_PORT,
        "image": server.image,
    }


if "" in models:
    wanted = models[""]
    for key, value in told(ModelServer(wanted.model_name, ModelServerArgs(**vars(wanted)))).items():
        pulumi.export(key, value)
else:
    # a namespace is all models' that are in it, so the program makes it, once
    spaces = {
        name: kubernetes.core.v1.Namespace(
            f"{name}-namespace", metadata={"name": name, "labels": dict(outputs.NAMESPACE_LABELS)}
        )
        for name in sorted({str(one.namespace) for one in models.values() if one.create_namespace})
    }
    servers = {}
    for name, one in models.items():
        args = ModelServerArgs(**vars(one))
        if str(one.namespace) in spaces:
            args["namespace"] = spaces[str(one.namespace)].metadata.apply(lambda made: str(made.name))
            args["create_namespace"] = False
        servers[name] = ModelServer(one.model_name, args)
    pulumi.export(several.KEY, {name: told(server) for name, server in servers.items()})
