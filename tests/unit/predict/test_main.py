"""The command: its exit codes, its dots, its JSON, MNIST's own files; against the stand-in."""

import gzip
import json
import struct
import threading

import grpc
import numpy as np
import pytest

from infra.predict.__main__ import main
from infra.predict.requests import write
from predict.standin import CLASSIFY, PREDICT, Behaviour, StandIn, fixed_requests, requests_file, scores_of


def _run(capsys, *words):
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_right_answers(tmp_path, capsys):
    with StandIn() as server:
        code, out, _ = _run(capsys, "--server", server.address, "--requests", requests_file(tmp_path))
    assert code == 0
    assert out.splitlines()[0] == "." * 103  # 100 images, round and round, and the three classifications
    assert "Inference error rate: 0%" in out.splitlines()
    assert "103 compared, 0 differ" in out


def test_json_is_one_document(tmp_path, capsys):
    with StandIn() as server:
        code, out, _ = _run(
            capsys, "--server", server.rest, "--transport=rest", "--requests", requests_file(tmp_path),
            "--num_tests=5", "--concurrency=2", "--json",
        )  # fmt: skip
    data = json.loads(out)
    assert code == 0
    assert data["ok"] is True
    assert data["requests"] == 8
    assert data["transport"] == "rest"


def test_wrong_answers_and_errors_exit_1(tmp_path, capsys):
    file = requests_file(tmp_path)
    with StandIn(Behaviour(off_by=0.01)) as server:
        code, out, _ = _run(capsys, "--server", server.address, "--requests", file)
    assert code == 1
    assert "scores[0,0]" in out
    with StandIn(Behaviour(fail_with=grpc.StatusCode.INTERNAL, fail_every=2)) as server:
        code, out, _ = _run(capsys, "--server", server.address, "--requests", file)
    assert code == 1
    assert out.splitlines()[0].count("x") == 51


def test_a_low_accuracy_exits_1(tmp_path, capsys):
    file = tmp_path / "r.jsonl"
    requests = fixed_requests(2)
    write(file, [type(requests[0])(**{**vars(one), "labels": (-1,)}) for one in requests])
    with StandIn() as server:
        words = ("--server", server.address, "--requests", file)
        assert _run(capsys, *words)[0] == 0
        code, out, _ = _run(capsys, *words, "--min_accuracy=0.5", "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--server=127.0.0.1:1",),
        ("--server=nowhere", "--requests={file}"),
        ("--server=127.0.0.1:1", "--requests={file}", "--work_dir=."),
        ("--server=127.0.0.1:1", "--requests={file}", "--num_tests=0"),
        ("--server=127.0.0.1:1", "--requests={file}", "--timeout=0"),
        ("--server=127.0.0.1:1", "--requests=absent.jsonl"),
        ("--server=127.0.0.1:1", "--requests={file}", "--transport=smtp"),
        ("--server=127.0.0.1:1", "--requests={file}", "--ca_file=absent.pem"),
        ("--server=127.0.0.1:1", "--work_dir=absent", "--ready_timeout=0.1"),
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
        code, out, err = _run(capsys, "--server", server.address, *words)
    assert code == 2
    assert json.loads(out)["ok"] is False
    assert "'other'" in json.loads(out)["error"]["what"]
    assert "--model_name" in err


def test_an_unreachable_or_unready_server_exits_3(tmp_path, capsys):
    file = requests_file(tmp_path)
    code, _, err = _run(capsys, "--server=127.0.0.1:1", "--requests", file, "--ready_timeout=0.1")
    assert code == 3
    assert "connection refused" in err
    with StandIn(Behaviour(state="LOADING")) as server:
        code, _, err = _run(capsys, "--server", server.address, "--requests", file, "--ready_timeout=0.1")
    assert code == 3
    assert "version 1: LOADING" in err


def _idx(folder, rows, labels, suffix=""):
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, len(rows), 2, 4) + rows.tobytes()
    marks = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)
    for name, data in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", marks)):
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(data) if suffix else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("keys", [("images", "scores"), ("inputs", "outputs")])
def test_mnist_files_like_the_chapters_client(tmp_path, capsys, suffix, keys):
    rows = np.random.default_rng(2).integers(0, 256, (10, 8), dtype=np.uint8)
    labels = scores_of(rows.astype(np.float32) / 255).argmax(axis=1)
    labels[0] = (labels[0] + 1) % 3
    _idx(tmp_path, rows, labels.tolist(), suffix)
    signatures = {"predict_images": (PREDICT, *keys), "serving_default": (CLASSIFY, "inputs", "scores")}
    with StandIn(Behaviour(signatures=signatures)) as server:
        code, out, _ = _run(capsys, "--server", server.address, "--work_dir", tmp_path, "--num_tests=10")
    assert code == 0
    assert out.splitlines()[0] == ".........."
    assert "Inference error rate: 10%" in out.splitlines()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda folder: (folder / "t10k-labels-idx1-ubyte").unlink(),
            "has no t10k labels: none of t10k-labels-idx1-ubyte",
        ),
        (lambda folder: _cut(folder / "t10k-images-idx3-ubyte", -1), "is truncated: "),
        (lambda folder: _cut(folder / "t10k-images-idx3-ubyte", 10), "its header alone takes 16"),
        (lambda folder: (folder / "t10k-images-idx3-ubyte").write_bytes(b"\x1f\x8bxx"), "cannot read"),
        (lambda folder: _idx_labels(folder, [1]), "has 4 images but t10k-labels-idx1-ubyte has 1 labels"),
    ],
)
def test_broken_mnist_files_are_named(tmp_path, capsys, change, words):
    _idx(tmp_path, np.zeros((4, 8), np.uint8), [0, 1, 2, 0])
    change(tmp_path)
    with StandIn() as server:
        code, _, err = _run(capsys, "--server", server.address, "--work_dir", tmp_path)
    assert code == 2
    assert words in err
    assert str(tmp_path) in err


def _cut(path, end):
    path.write_bytes(path.read_bytes()[:end])


def _idx_labels(folder, labels):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(
        struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)
    )


def test_a_model_without_an_image_signature_is_told(tmp_path, capsys):
    _idx(tmp_path, np.zeros((1, 8), np.uint8), [0])
    with StandIn(Behaviour(signatures={"serving_default": (CLASSIFY, "inputs", "scores")})) as server:
        code, _, err = _run(capsys, "--server", server.address, "--work_dir", tmp_path)
    assert code == 2
    assert "could take images: none" in err
    with StandIn() as server:
        words = ("--work_dir", tmp_path, "--signature=serving_default")
        code, _, err = _run(capsys, "--server", server.address, *words)
    assert code == 2
    assert "does not take images" in err


def test_images_of_another_size_are_refused(tmp_path, capsys):
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 1, 3, 3) + bytes(9)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    _idx_labels(tmp_path, [0])
    with StandIn() as server:
        code, _, err = _run(capsys, "--server", server.address, "--work_dir", tmp_path)
    assert code == 2
    assert "an image has 9" in err


def test_a_load_is_reported(tmp_path, capsys):
    with StandIn(Behaviour(hang=None)) as server:
        words = ("--requests", requests_file(tmp_path), "--load", "--json", "--num_tests=2")
        code, out, _ = _run(capsys, "--server", server.address, *words)
    assert code == 0
    assert json.loads(out)["load"]["concurrency"] == 1
    assert json.loads(out)["load"]["statuses"].keys() == {"OK"}


def test_ctrl_c_exits_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("infra.predict.__main__.check", interrupted)
    assert threading.current_thread() is threading.main_thread()
    assert _run(capsys, "--server=127.0.0.1:1", "--requests", requests_file(tmp_path))[0] == 130
