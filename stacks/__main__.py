"""`pulumi up`: read the stack's configuration, build one ModelServer, export its names."""

from __future__ import annotations

import pulumi
from pulumi.runtime.config import get_config_env
from slipway_stacks import inputs, outputs
from slipway_stacks.args import ModelServerArgs
from slipway_stacks.model_server import ModelServer

PREFIX = f"{outputs.PROJECT}:"

try:
    # the whole bag, not key by key: a misspelt key is an error, not a silent default
    wanted = inputs.read(
        {key.removeprefix(PREFIX): value for key, value in get_config_env().items() if key.startswith(PREFIX)}
    )
except inputs.InputsError as error:
    raise pulumi.RunError(str(error)) from error

server = ModelServer(wanted.model_name, ModelServerArgs(**vars(wanted)))

pulumi.export("namespace", server.namespace)
pulumi.export("deployment", server.deployment_name)
pulumi.export("service", server.service_name)
pulumi.export("replicas", server.replicas_name)
pulumi.export("grpcPort", outputs.GRPC_PORT)
pulumi.export("restPort", outputs.REST_PORT)
pulumi.export("image", server.image)
