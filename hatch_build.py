"""The build hook of slipway-serving: its wheel carries the wheels that go into the serving image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilder

IN_THE_IMAGE = ("infra/slipway_client", "infra/slipway_server")


class CarryWheels(BuildHookInterface[Any]):
    """Builds the client's and the model server's wheel and puts them into slipway/wheels."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is written; an editable installation builds them when it needs them."""
        if version != "standard":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="slipway-wheels-")
        for product in IN_THE_IMAGE:
            for wheel in WheelBuilder(str(Path(self.root, product))).build(directory=self._folder.name):
                build_data["force_include"][wheel] = f"slipway/wheels/{Path(wheel).name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is written."""
        if version == "standard":
            self._folder.cleanup()
