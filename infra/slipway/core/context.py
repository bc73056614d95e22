"""What every stage is given beside the values it names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from slipway_client.logins import without_logins

from slipway.core.events import Emit, silent
from slipway.core.state import State, cache_home


@dataclass(frozen=True)
class Context:
    """What every stage is handed.

    project: the folder with playbooks/, stacks/ and Pulumi.yaml (the checkout, or what the wheel carries).
    run: this run's folder, for evidence. cached_only: what the cache lacks is not made, but raises NotCached.
    """

    state: State
    run: Path
    project: Path
    cache: Path = field(default_factory=cache_home)
    emit: Emit = silent
    cached_only: bool = False

    def of(self, model: str) -> Context:
        """The same for one of several models: its part of the state folder and of the run's."""
        if not model:
            return self
        return replace(self, state=self.state.of(model), run=self.run / "models" / model)

    def evidence(self, name: str) -> Path:
        """A file of this run's folder for evidence; its parent exists."""
        path = self.run / "evidence" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep_evidence(self, name: str, text: str) -> Path:
        """Write a file of evidence, without the logins that somebody else's words may hold; returns it."""
        path = self.evidence(name)
        path.write_text(without_logins(text), encoding="utf-8", errors="replace")
        return path
