"""The deployment: apply, preview, render, destroy."""

from __future__ import annotations

import sys

import yaml

from slipway.cli.chain import run_chain
from slipway.cli.options import Config, Json, Model, Set, Verbose
from slipway.cli.printing import show, show_removed
from slipway.cli.session import Session
from slipway.clients.kubectl import Manifest
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.types import Cluster, ImageRef


def deploy(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Apply the deployment and wait until every replica is ready.

    It waits at most deploy.timeout seconds, and gives up at once for what waiting does not help: it exits
    with 6 then and names pod, node and cause. What was applied stays, an earlier revision goes on serving,
    and the next `slipway deploy` goes on from there. A deployment that the settings do not name any more is
    taken away at the end, unless --model names another.

    \b
    slipway deploy --set deploy.replicas=5
    """
    session = Session(config, set_, verbose=verbose)
    return run_chain(session, "deploy", first="deploy", last="deploy", only=model, as_json=json)


def preview(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Say what `deploy` would change in the cluster; change nothing.

    With the engine that is Pulumi's own preview, otherwise the API server's dry run.
    """
    from slipway.deploy.leaving import TakeAway, gone
    from slipway.deploy.stage import Deploy

    session = Session(config, set_, verbose=verbose)
    each = session.settings.each(model)
    with session.owning("preview") as ctx:
        cluster = _cluster(session, ctx)
        plans = {
            name: Deploy().plan(ctx.of(name), settings, cluster, _image(session, name))
            for name, settings in each
        }
        for place in gone(ctx, session.settings) if not model else ():
            plans.setdefault(place.state.model, []).extend(TakeAway().plan(place, session.settings))
    lines = [f"{name}: {line}" if name else line for name, told in plans.items() for line in told]
    show(plans if session.settings.models else lines, json, lambda: lines or ["nothing would change"])
    return 0


def render(config: Config = None, set_: Set = None, model: Model = "", json: Json = False) -> int:
    """Print the deployment's manifests.

    For review or GitOps; they hold no secret.
    """
    from slipway.deploy import declaration

    session = Session(config, set_)
    with session.looking("render") as ctx:
        documents: list[Manifest] = []
        for name, settings in session.settings.each(model):
            rendered = declaration.render(ctx.of(name), settings, _image(session, name))
            documents += [one for one in rendered if one not in documents]  # the namespace is all models'
    if json:
        show(documents, True, list)
    else:
        sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False))
    return 0


def destroy(
    config: Config = None, set_: Set = None, model: Model = "", json: Json = False, verbose: Verbose = False
) -> int:
    """Remove the deployment from the cluster; the cluster stays.

    Takes away the objects that slipway made, the pull secret, and the namespace if slipway made it. With
    --model that model's objects alone; it may be one that the settings do not name any more.
    """
    from slipway.deploy import deployed
    from slipway.deploy.leaving import destroy as remove

    session = Session(config, set_, verbose=verbose)
    if model not in session.state.kept_models:
        session.settings.each(model)  # refuses what there is not
    with session.owning("destroy") as ctx:
        cluster = _cluster(session, ctx)
        named = model if session.settings.models or model in session.state.kept_models else ""
        removed = [
            line
            for place in deployed.places(ctx)
            if not model or place.state.model == named
            for line in remove(place, session.settings.of(place.state.model), cluster)
        ]
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


def _image(session: Session, model: str) -> ImageRef:
    """The image that is deployed. Raises UsageError if there is none yet."""
    image = session.state.of(model).kept(ImageRef)
    if image is None:
        raise _missing(f"image of {model}" if model else "image", "slipway image build")
    return image


def _missing(what: str, verb: str) -> UsageError:
    return UsageError(
        f"there is no {what} yet", action=f"`{verb}` makes it, `slipway up` does the whole chain"
    )
