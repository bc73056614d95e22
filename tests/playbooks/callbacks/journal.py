"""Ansible callback: write down each task as it begins on a host, so that a test can act in the middle of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: journal
type: notification
short_description: Each task as it begins
description: One line for each into the file SLIPWAY_JOURNAL, with the host, a tab, and role and task.
"""


class CallbackModule(CallbackBase):
    """Keeps the journal."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "journal"

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with Path(os.environ["SLIPWAY_JOURNAL"]).open("a") as file:
            file.write(f"{host.get_name()}\t{task.get_name().removeprefix('slipway.serving.')}\n")
