"""The command line in this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from slipway.cli import app


@pytest.fixture
def slipway(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`slipway WORDS`: its exit code."""

    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["slipway", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0)

    return run
