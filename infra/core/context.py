"""What every stage is given beside the values it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from infra.core.events import Emit, silent
from infra.core.state import State, cache_home


@dataclass(frozen=True)
class Context:
    """project: the checkout with playbooks/ and stacks/. run: this run's folder, for evidence."""

    state: State
    run: Path
    project: Path
    cache: Path = field(default_factory=cache_home)
    emit: Emit = silent

    def evidence(self, name: str) -> Path:
        """A file of this run's folder for evidence; its parent exists."""
        path = self.run / "evidence" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
