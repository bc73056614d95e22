"""What differs between model servers: how one is told its model, asked how it is, and let go.

TensorFlow Serving's own server differs from the portable one in three ways. Its official image knows the
model from the variable MODEL_NAME only. Its gRPC health service, where it is switched on, says nothing of
models, so it is asked for its model over REST; that port opens when the models are loaded. And it handles no
signal: as a container's first process it does not see SIGTERM and is killed at the end of the grace period
(model_servers/main.cc and server.cc of TensorFlow Serving 2.21).
"""

from __future__ import annotations

from typing import Any

from slipway_stacks import outputs
from slipway_stacks.args import lifted
from slipway_stacks.inputs import Inputs

# After a pod is told to end, its address is still in other nodes' tables for a moment: it goes on
# serving that long before the server hears of it, so that a rolling update loses no request.
LEAVE_SECONDS = 5


def variables(inputs: Inputs) -> dict[str, str]:
    """Variables of the environment that the server takes its model from."""
    return {"MODEL_NAME": inputs.model_name} if inputs.server == "tensorflow" else {}


def health(inputs: Inputs) -> dict[str, Any]:
    """How a probe asks whether the model can be asked."""
    if inputs.server == "tensorflow":
        return {"httpGet": {"path": f"/v1/models/{inputs.model_name}", "port": outputs.REST_PORT}}
    port = outputs.GRPC_PORT if inputs.tls_secret is None else outputs.HEALTH_PORT
    return {"grpc": {"port": port, "service": ""}}


def leaving_seconds(inputs: Inputs) -> Any:
    """How long a leaving replica goes on as if nothing were, before it hears SIGTERM.

    A server that SIGTERM ends at once, or not at all, has its time to finish requests before that.
    """
    if inputs.server == "tensorflow":
        return lifted(inputs.drain_seconds, lambda seconds: LEAVE_SECONDS + seconds)
    return LEAVE_SECONDS


def grace_seconds(inputs: Inputs) -> Any:
    """When a leaving replica is killed, counted from when it is told to leave."""
    last = 1 if inputs.server == "tensorflow" else 0  # the API wants the sleep to be shorter than this
    return lifted(inputs.drain_seconds, lambda seconds: LEAVE_SECONDS + seconds + last)
