"""The program that runs in a replica, run here: what answers, what refuses, what stays silent, what has no name."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

from slipway.smoke import network_policy


def test_it_tells_what_answers_from_what_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        port, shut = server.getsockname()[1], closed.getsockname()[1]
        closed.close()
        asked = {
            "seconds": 2,
            "places": [("open", "127.0.0.1", port), ("shut", "127.0.0.1", shut), ("the API", "", 0)],
            "names": ["localhost", "no-such-name.invalid"],
        }
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", network_policy._PROGRAM, json.dumps(asked)],
            env={"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)},
            capture_output=True,
            text=True,
            check=True,
        )
    said = network_policy._answer(done.stdout)
    assert {name for name, reason in said.items() if reason == ""} == {"open", "the API", "localhost"}
    assert "refused" in said["shut"]
    assert said["no-such-name.invalid"]
