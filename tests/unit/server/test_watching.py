"""What changes on disk while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from slipway_server.models import Models
from slipway_server.watching import ConfigFile


class Served:
    """Models that only remember what they were told to serve."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    def names(self) -> list[str]:
        return ["a"]

    async def configure(self, configs: list[Any]) -> None:
        self.told.append([config.name for config in configs])


def text(*names: str) -> str:
    one = 'config {{ name: "{0}" base_path: "/m/{0}" model_platform: "tensorflow" }}'
    return f"model_config_list {{ {' '.join(one.format(name) for name in names)} }}"


def test_what_changed_while_the_first_models_were_loaded_is_taken_up(tmp_path: Path) -> None:
    file, models = tmp_path / "models.config", Served()
    file.write_text(text("a", "b"))
    watched = ConfigFile(file, cast("Models", models), served=text("a"))
    asyncio.run(watched.look())
    asyncio.run(watched.look())
    assert models.told == [["a", "b"]], "once"
