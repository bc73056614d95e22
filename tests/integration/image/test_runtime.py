from __future__ import annotations

import threading
from pathlib import Path

import pytest
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.image import build_context
from slipway.image.stage import BuildImage

from tests.unit.image.test_image_stage import Scene, scene

__all__ = ["scene"]


def test_packages_that_are_asked_for_twice_at_once_are_unpacked_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the stage that bakes hosts and by what is prepared beside it: a context is whole, or not there."""
    written: list[Path] = []
    begun, go_on = threading.Event(), threading.Event()

    def write(out: Path, wheels: Path, server: str) -> None:
        written.append(out)
        begun.set()
        assert go_on.wait(20)
        out.touch()

    monkeypatch.setattr(build_context, "write_runtime", write)
    asked = [threading.Thread(target=BuildImage().prepare, args=(scene.ctx, Settings())) for _ in range(2)]
    asked[0].start()
    assert begun.wait(20)
    asked[1].start()
    while not [event for event in scene.events if isinstance(event, Note) and "waiting" in event.text]:
        asked[1].join(0.001)
    go_on.set()
    for thread in asked:
        thread.join(20)
    assert len(written) == 1
