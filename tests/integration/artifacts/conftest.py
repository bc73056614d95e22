"""What the unit tests of artifacts start from: a context in a temporary folder, a stand-in for a server."""

from __future__ import annotations

from tests.unit.artifacts.conftest import _no_memory, lab, stand_in

__all__ = ["_no_memory", "lab", "stand_in"]
