"""The deployment: apply, preview, render, destroy."""

from __future__ import annotations

import sys

import yaml

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Set, Verbose
from slipway.cli.printing import show, show_removed
from slipway.cli.session import Session
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.types import Cluster, ImageRef


def deploy(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Apply the deployment and wait until every replica is ready.

    It waits at most deploy.timeout seconds, and gives up at once for what waiting does not help: it exits
    with 6 then and names pod, node and cause. What was applied stays, an earlier revision goes on serving,
    and the next `slipway deploy` goes on from there.

    \b
    slipway deploy --set deploy.replicas=5
    """
    session = Session(config, set_, verbose=verbose)
    return run_chain(session, "deploy", first="deploy", last="deploy", as_json=json)


def preview(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Say what `deploy` would change in the cluster; change nothing.

    With the engine that is Pulumi's own preview, otherwise the API server's dry run.
    """
    from slipway.deploy.stage import Deploy

    session = Session(config, set_, verbose=verbose)
    with session.owning("preview") as ctx:
        lines = Deploy().plan(ctx, session.settings, _cluster(session, ctx), _image(session))
    show(lines, json, lambda: lines or ["nothing would change"])
    return 0


def render(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """Print the deployment's manifests.

    For review or GitOps; they hold no secret.
    """
    from slipway.deploy import declaration

    session = Session(config, set_)
    with session.looking("render"):
        documents = declaration.render(session.settings, _image(session))
    if json:
        show(documents, True, list)
    else:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False))
    return 0


def destroy(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove the deployment from the cluster; the cluster stays.

    Takes away the objects that slipway made, the pull secret, and the namespace if slipway made it.
    """
    from slipway.deploy.stage import destroy as remove

    session = Session(config, set_, verbose=verbose)
    with session.owning("destroy") as ctx:
        removed = remove(ctx, session.settings, _cluster(session, ctx))
    show_removed(removed, json)
    return 0


def _cluster(session: Session, ctx: Context) -> Cluster:
    """The cluster that is deployed to. Raises UsageError if there is none yet."""
    from slipway.provision.stage import Provision

    if session.settings.cluster.kubeconfig is not None:
        return Provision().provided(ctx, session.settings).value
    cluster = session.state.kept(Cluster)
    if cluster is None:
        raise _missing("cluster", "slipway provision")
    return cluster


def _image(session: Session) -> ImageRef:
    """The image that is deployed. Raises UsageError if there is none yet."""
    image = session.state.kept(ImageRef)
    if image is None:
        raise _missing("image", "slipway image build")
    return image


def _missing(what: str, verb: str) -> UsageError:
    return UsageError(
        f"there is no {what} yet", action=f"`{verb}` makes it, `slipway up` does the whole chain"
    )
