"""The examples of docs/client.md run, one after the other, against the servers they name."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from slipway_client.__main__ import main
from slipway_client.check import sample
from slipway_client.connect import connect
from slipway_client.requests import FixedRequest, write

from tests.integration.client.test_tls import Made as Certificates
from tests.integration.client.test_tls import made as certificates  # noqa: F401  # a fixture
from tests.integration.server.conftest import made, start  # noqa: F401  # fixtures: a real model, a real server
from tests.standins.inference_server import InferenceStandIn
from tests.standins.model_server import Behaviour, ServerTls, StandIn, fixed_requests

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def addresses(made, start, tmp_path, monkeypatch, certificates: Certificates):  # noqa: F811  # pytest's way
    """What the page calls a server -> where it is. The files that it names are in the working folder."""
    monkeypatch.chdir(tmp_path)
    real = start("--model_name=mnist", f"--model_base_path={made.models / 'net'}")
    shutil.copy(certificates.ca, "ca.pem")
    shutil.copy(certificates.server.certificate, "client.pem")
    shutil.copy(certificates.server.key, "client.key")
    Path("token").write_text("a-token")
    mutual = ServerTls(certificates.server.certificate, certificates.server.key, client_ca=certificates.ca)
    behaviour = Behaviour(token="a-token")  # of a stand-in
    write(Path("others.jsonl"), [one for one in fixed_requests(3) if one.method == "predict"])
    with contextlib.ExitStack() as servers:
        secured = servers.enter_context(StandIn(behaviour, tls=mutual))
        other = servers.enter_context(InferenceStandIn())
        yield {
            "localhost:8500": f"127.0.0.1:{real.port}",
            "localhost:8501": f"127.0.0.1:{real.rest_port}",
            "mnist-replicas.serving:8500": f"localhost:{real.port}",
            "models.example:8500": f"localhost:{secured.port}",
            "localhost:8001": other.address,
        }


def _recorded(address):
    rows = np.random.default_rng(1).random((3, 1, 784)).astype(np.float32)
    asked = [FixedRequest("predict", "predict_images", {"images": row}) for row in rows]
    with connect(address) as client:
        return [replace(one, expected=answer.outputs) for one, answer in sample(client, "mnist", asked)]


def test_every_example_runs(addresses, capsys):
    write(Path("requests.jsonl"), _recorded(addresses["localhost:8500"]))
    known: dict[str, object] = {}
    printed = {}
    for number, (language, text) in enumerate(BLOCKS):
        for name, address in addresses.items():
            text = text.replace(name, address)  # noqa: PLW2901  # the page's text, step by step
        if language == "python":
            exec(compile(text, f"{PAGE.name}, example {number + 1}", "exec"), known)
            printed[number] = capsys.readouterr().out
            assert printed[number], text
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            if "models.example" not in line and "others" in line:
                words.append("--num_tests=3")
            assert program == "slipway-prove"
            asked = "others.jsonl" if f" {addresses['models.example:8500']} " in line else "requests.jsonl"
            assert main([word.replace("requests.jsonl", asked) for word in words]) == 0, line
    said = "".join(printed.values())
    assert "(2, 10) by version" in said
    assert "float32 (None, 784)" in said
    assert "what to do: give the name it serves with --model_name" in said
    assert {language for language, _ in BLOCKS} == {"python", "sh"}
