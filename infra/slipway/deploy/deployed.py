"""What this state folder deployed last, where and how: for `destroy`, for evidence and for the next run."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from slipway_stacks.outputs import Names

from slipway.clients.kubectl import Kubectl
from slipway.core.context import Context
from slipway.core.errors import DeployError, EnvironmentFault
from slipway.core.state import write_atomically
from slipway.deploy import stack_config
from slipway.deploy.way import Way

APPLYSET = "slipway-applyset"


@dataclass(frozen=True)
class Earlier:
    """What this state folder deployed last. backend: where Pulumi keeps its state, if not in this folder."""

    namespace: str
    by: Way
    deployment: str = "mnist-deployment"  # what every one was called before names followed the model's
    backend: str | None = None


def remember(ctx: Context, earlier: Earlier) -> None:
    """Keep what was deployed where and how, for `destroy` and the next run."""
    write_atomically(ctx.state.deployed, json.dumps(asdict(earlier)))


def remembered(ctx: Context) -> Earlier | None:
    """What this state folder deployed last, None if there is no record or it cannot be read."""
    try:
        return Earlier(**json.loads(ctx.state.deployed.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def places(ctx: Context) -> list[Context]:
    """Where this state folder remembers a deployment: that of a single model, and of each of several."""
    every = [replace(ctx, state=ctx.state.of(name)) for name in ("", *ctx.state.kept_models)]
    return [place for place in every if remembered(place) is not None]


def applyset(ctx: Context) -> str:
    """The ConfigMap that remembers which objects an apply of this model made."""
    model = ctx.state.model
    return f"{APPLYSET}-{Names(model).stem}" if model else APPLYSET


def forget(ctx: Context) -> list[str]:
    """Drop the memory, and of the stack's file what slipway wrote. Returns a line for each file removed."""
    removed = stack_config.take_back(ctx)
    ctx.state.deployed.unlink(missing_ok=True)
    return removed


def refuse_leaving(ctx: Context, kubectl: Kubectl, namespace: str) -> None:
    """Raise DeployError rather than leave an earlier deployment running in another namespace unnoticed."""
    earlier = remembered(ctx)
    if earlier is None or earlier.namespace == namespace:
        return
    option = f" --model {ctx.state.model}" if ctx.state.model else ""
    if kubectl.find("deployment", earlier.deployment, namespace=earlier.namespace) is not None:
        raise DeployError(
            f"{earlier.deployment} runs in namespace {earlier.namespace}; deploying to {namespace} "
            "would leave it there",
            action=f"take it away first: `slipway destroy{option}`",
        )


def kubectl_for(ctx: Context, kubeconfig: Path, context: str | None) -> Kubectl:
    """The client that deployed, or the one on PATH. Raises EnvironmentFault if there is neither."""
    kept = ctx.state.bin / "kubectl"
    found = str(kept) if kept.exists() else shutil.which("kubectl")
    if found is None:
        raise EnvironmentFault("there is no kubectl", action="put kubectl on PATH")
    return Kubectl(Path(found), kubeconfig, context)
