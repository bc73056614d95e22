"""A model server on each host of group model_server, asked like every replica before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.evidence import Reading
from slipway.core.schema import Settings
from slipway.core.types import MAKERS, ExportedModel, Hosts, HostServers, Outcome
from slipway.serve import play

GROUP = "model_server"


class ServeOnHosts:
    """Hosts, ExportedModel -> HostServers. Without a host in the group there is nothing to do."""

    title: ClassVar[str] = "Serve the model on hosts"

    def should_run(self, settings: Settings) -> str:
        """Not wanted where slipway makes the hosts and none of them is to have a server of its own."""
        made_here = settings.hosts.backend in MAKERS
        return "hosts.model_servers is 0" if made_here and not settings.hosts.model_servers else ""

    def run(
        self, ctx: Context, settings: Settings, hosts: Hosts | None, model: ExportedModel
    ) -> Outcome[HostServers]:
        """Run model_server.yml, which installs the server, brings the model and asks it.

        Raises ProvisionError with host, task and log where it cannot be installed or does not answer as it
        should, UsageError for several models: a host's server has one.
        """
        servers = _servers(hosts)
        if servers is None:
            return Outcome(HostServers(()), 0, f"no host is in group {GROUP}")
        _need_one_model(ctx, model)
        played = play.run(ctx, servers, _asked(settings, model))
        names = tuple(host.name for host in servers.hosts)
        text = f"{model.name} version {model.version} answers on {', '.join(names)} as recorded"
        return Outcome(HostServers(names), played.changed, text)

    def plan(
        self, ctx: Context, settings: Settings, hosts: Hosts | None, model: ExportedModel | None
    ) -> list[str]:
        """Ansible's own dry run, once there are hosts and a model."""
        servers = _servers(hosts)
        if servers is None:
            made = settings.hosts.model_servers if hosts is None else 0
            return [f"serve the model on {made} hosts"] if made else []
        if model is None:
            return [f"serve the model on {', '.join(host.name for host in servers.hosts)}"]
        _need_one_model(ctx, model)
        played = play.run(ctx, servers, _asked(settings, model), check=True)
        return [change.line for change in played.changes]

    def collect(self, ctx: Context) -> Sequence[Reading]:
        """The server's journal, from each host."""
        servers = _servers(ctx.state.kept(Hosts))
        return [play.journal(host) for host in servers.hosts] if servers else []


def _servers(hosts: Hosts | None) -> Hosts | None:
    """The hosts that are to serve, None where there is none."""
    chosen = hosts.group(GROUP) if hosts is not None else ()
    return replace(hosts, hosts=chosen) if hosts is not None and chosen else None


def _asked(settings: Settings, model: ExportedModel) -> ExportedModel:
    """The model with the questions that smoke asks too."""
    return replace(model, requests=settings.smoke.requests or model.requests)


def _need_one_model(ctx: Context, model: ExportedModel) -> None:
    if ctx.state.model or model.beside:
        raise UsageError(
            f"a server on a host has one model, and the settings name "
            f"{'several (models)' if ctx.state.model else 'others beside it (model.beside)'}",
            action=f"take the hosts out of group {GROUP}, or serve one model",
        )
