"""The command: its exit codes, its dots, its JSON; against the stand-in."""

import json
import re
import threading

import grpc
import pytest
from slipway_client.__main__ import main
from slipway_client.requests import write

from tests.standins.load import one_round
from tests.standins.model_server import Behaviour, StandIn, fixed_requests, requests_file


def _run(capsys, *words):
    code: object
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_right_answers(tmp_path, capsys):
    with StandIn() as server:
        code, out, _ = _run(capsys, server.address, "--requests", requests_file(tmp_path))
    assert code == 0
    assert out.splitlines()[0] == "." * 103  # 100 images, round and round, and the three classifications
    assert "Inference error rate: 0%" in out.splitlines()
    assert "103 compared, 0 differ" in out


def test_json_is_one_document(tmp_path, capsys):
    with StandIn() as server:
        code, out, _ = _run(
            capsys,
            server.rest,
            "--transport=rest",
            "--requests",
            requests_file(tmp_path),
            "--num_tests=5",
            "--concurrency=2",
            "--json",
        )
    data = json.loads(out)
    assert code == 0
    assert data["ok"] is True
    assert data["requests"] == 8
    assert data["transport"] == "rest"


def test_wrong_answers_and_errors_exit_1(tmp_path, capsys):
    file = requests_file(tmp_path)
    with StandIn(Behaviour(off_by=0.01)) as server:
        code, out, _ = _run(capsys, server.address, "--requests", file)
    assert code == 1
    assert "scores[0,0]" in out
    with StandIn(Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=2)) as server:
        code, out, _ = _run(capsys, server.address, "--requests", file)
    assert code == 1
    assert out.splitlines()[0].count("x") == 51


def test_a_low_accuracy_exits_1(tmp_path, capsys):
    file = tmp_path / "r.jsonl"
    requests = fixed_requests(2)
    write(file, [type(requests[0])(**{**vars(one), "labels": (-1,)}) for one in requests])
    with StandIn() as server:
        words = (server.address, "--requests", file)
        assert _run(capsys, *words)[0] == 0
        code, out, _ = _run(capsys, *words, "--min_accuracy=0.5", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("127.0.0.1:1",),
        ("nowhere", "--requests={file}"),
        ("127.0.0.1:1", "--requests={file}", "--num_tests=0"),
        ("127.0.0.1:1", "--requests={file}", "--timeout=0"),
        ("127.0.0.1:1", "--requests=absent.jsonl"),
        ("127.0.0.1:1", "--requests={file}", "--transport=smtp"),
        ("127.0.0.1:1", "--requests={file}", "--ca_file=absent.pem"),
        ("127.0.0.1:1", "--requests={file}", "--work_dir=."),  # MNIST's files are slipway smoke's
    ],
)
def test_wrong_use_exits_2(tmp_path, capsys, words):
    file = requests_file(tmp_path)
    code, out, err = _run(capsys, *(word.format(file=file) for word in words))
    assert code == 2
    assert out == ""
    assert err


def test_another_model_exits_2_and_json_says_why(tmp_path, capsys):
    words = ("--requests", requests_file(tmp_path), "--model_name=other", "--json")
    with StandIn() as server:
        code, out, err = _run(capsys, server.address, *words)
    assert code == 2
    assert json.loads(out)["ok"] is False
    assert "'other'" in json.loads(out)["error"]["what"]
    assert "--model_name" in err


def test_an_unreachable_or_unready_server_exits_3(tmp_path, capsys):
    file = requests_file(tmp_path)
    code, _, err = _run(capsys, "127.0.0.1:1", "--requests", file, "--ready_timeout=0.1")
    assert code == 3
    assert "connection refused" in err
    with StandIn(Behaviour(state="LOADING")) as server:
        code, _, err = _run(capsys, server.address, "--requests", file, "--ready_timeout=0.1")
    assert code == 3
    assert "version 1: LOADING" in err


def test_a_load_is_reported(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("slipway_client.check.load", one_round)
    with StandIn(Behaviour(hang=None)) as server:
        words = ("--requests", requests_file(tmp_path), "--load", "--json", "--num_tests=2")
        code, out, _ = _run(capsys, server.address, *words)
    assert code == 0
    assert json.loads(out)["load"]["concurrency"] == 1
    assert json.loads(out)["load"]["statuses"].keys() == {"OK"}


def test_help_tells_every_flag_in_whole_sentences_and_every_exit_code(capsys):
    code, out, err = _run(capsys, "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: slipway-prove ")
    flags = re.findall(r"^  (--\w+|HOST:PORT)(?: \S+)?\s+(\S.*)$", out, re.M)
    assert {name for name, _ in flags} >= {"HOST:PORT", "--requests", "--min_accuracy", "--load", "--json"}
    assert "..." not in out
    assert "\u2026" not in out
    assert re.findall(r"^  (\d+)  +\S", out, re.M) == ["0", "1", "2", "3", "130"]


def test_ctrl_c_exits_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("slipway_client.__main__.check", interrupted)
    assert threading.current_thread() is threading.main_thread()
    assert _run(capsys, "127.0.0.1:1", "--requests", requests_file(tmp_path))[0] == 130
