"""One command: what it was asked with, its settings, its console, and the state folder it works on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from slipway.core import project
from slipway.core.console import Console
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.lock import held
from slipway.core.ownership import require_own, require_own_target, require_own_tree
from slipway.core.schema import Settings
from slipway.core.state import State, cache_home
from slipway.core.types import Hosts
from slipway.settings.read import Request, read


class Session:
    """Settings are read, and refused, before anything is touched.

    So is what somebody else can write: slipway.yaml before it is read, then the state folder, the cache, and
    what of the settings names programs to run.
    """

    def __init__(self, config: Path | None, flags: list[str] | None, *, verbose: bool = False) -> None:
        if config is None and os.path.lexists("slipway.yaml"):
            config = Path("slipway.yaml")
        if config is not None:
            require_own("the settings file", config)
        environment = {name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_")}
        self.request = Request(config.resolve() if config else None, environment, tuple(flags or ()))
        self.settings, self.sources = read(self.request)
        self.console = Console(verbose=verbose)
        beside = self.request.config.parent if self.request.config is not None else Path.cwd().resolve()
        self.state = State(beside / ".slipway")
        self.state.require_own()
        require_own_tree("the cache", cache_home(), depth=1)
        for what, path in (
            ("the inventory", self.settings.hosts.inventory),
            ("the kubeconfig", self.settings.cluster.kubeconfig),
        ):
            if path is not None:  # both may name programs that run here
                require_own_target(what, path)

    def one(self, model: str) -> tuple[str, Settings]:
        """(name, settings) of the model that a verb is about. Raises UsageError where several could be."""
        each = self.settings.each(model)
        if len(each) > 1:
            raise UsageError(
                f"there are {len(each)} models",
                action=f"name one: --model {' or '.join(self.settings.models)}",
            )
        return each[0]

    @contextmanager
    def reporting(self, verb: str) -> Iterator[Context]:
        """Hold the state folder's lock, with a new run folder for log, evidence and report."""
        self._ask_again()
        with held(self.state, verb):
            ctx = self._context(self.state.new_run())
            with self.console.recording(ctx.run / "slipway.log"):
                yield ctx

    @contextmanager
    def owning(self, verb: str) -> Iterator[Context]:
        """Hold the state folder's lock without a report: the folders of runs stay as they are."""
        self._ask_again()
        with held(self.state, verb):
            ctx = self._context(self.state.new_log(verb))
            with self.console.recording(ctx.run / "slipway.log"):
                yield ctx

    @contextmanager
    def making_what_is_missing(self, verb: str) -> Iterator[Context]:
        """A context for `env`: the lock is held only where the folder it tells of is still to be made."""
        there = (self.state.pulumi / "passphrase").is_file()
        with nullcontext() if there else held(self.state, verb), self.looking(verb) as ctx:
            yield ctx

    @contextmanager
    def looking(self, verb: str) -> Iterator[Context]:
        """A context for a verb that changes nothing; a file appears only where a failure leaves evidence.

        Without a log, what libraries write is told with -v only.
        """
        with self.console.recording(None):
            yield self._context(self.state.log_of(verb))

    def _ask_again(self) -> None:
        """Before anything is drawn, ask for the passwords that the machines wanted when they were met."""
        hosts = self.state.kept(Hosts)
        if hosts is not None and any(host.asks or host.passwords for host in hosts.hosts):
            from slipway.cli import asking

            asking.ask_again(hosts)

    def _context(self, folder: Path) -> Context:
        return Context(state=self.state, run=folder, project=project.folder(), emit=self.console)
