"""The user of the serving images is the one its pods run as."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slipway import image
from slipway_stacks import outputs

FOLDER = Path(image.__file__).parent


@pytest.mark.parametrize("name", ["Dockerfile.portable", "Dockerfile.tensorflow"])
def test_an_image_runs_as_the_pods_user(name: str) -> None:
    users = re.findall(r"^USER (.*)$", (FOLDER / name).read_text(encoding="utf-8"), re.M)
    assert users == [f"{outputs.USER}:{outputs.USER}"]
