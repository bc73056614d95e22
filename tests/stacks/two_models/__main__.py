"""Two models in one namespace, each with servers of its own."""

import pulumi
import pulumi_kubernetes as kubernetes
from slipway_stacks.model_server import ModelServer
from slipway_stacks.outputs import NAMESPACE_LABELS

config = pulumi.Config()
space = kubernetes.core.v1.Namespace(
    "models", metadata={"name": config.require("namespace"), "labels": {**NAMESPACE_LABELS}}
)
digits = ModelServer(
    "digits",
    {
        "image": config.require("digits"),
        "model_name": "digits",
        "namespace": space.metadata.name,
        "create_namespace": False,
        "replicas": 2,
    },
)
clothes = ModelServer(
    "clothes",
    {
        "image": config.require("clothes"),
        "model_name": "clothes",
        "namespace": space.metadata.name,
        "create_namespace": False,
        "replicas": 1,
        # the server of the clothes may tell others where digits are read
        "env": {"DIGITS": digits.grpc_address},
    },
)
pulumi.export("digits", digits.grpc_address)
pulumi.export("clothes", clothes.grpc_address)
