"""`slipway smoke --server --work_dir` takes MNIST's own files, as the chapter's client does."""

import gzip
import struct
import sys

import numpy as np
import pytest
from slipway.cli import app

from tests.standins.load import one_round
from tests.standins.model_server import CLASSIFY, PREDICT, Behaviour, StandIn, scores_of


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """A load phase of one round, and a folder without a slipway.yaml."""
    monkeypatch.setattr("slipway_client.check.load", one_round)
    monkeypatch.chdir(tmp_path)


def smoke(capsys, *words):
    sys.argv = ["slipway", "smoke", "--set", "model.name=mnist", *map(str, words)]
    with pytest.raises(SystemExit) as end:
        app.main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


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
        code, out, _ = smoke(capsys, "--server", server.address, "--work_dir", tmp_path, "--num_tests=10")
    assert code == 0
    assert out.splitlines()[0] == ".........."
    assert "differences: 0 (limit 0) no recorded answers" in out
    assert "Inference error rate: 10.0%" in out.splitlines()


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
        code, _, err = smoke(capsys, "--server", server.address, "--work_dir", tmp_path)
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
        code, _, err = smoke(capsys, "--server", server.address, "--work_dir", tmp_path)
    assert code == 2
    assert "could take images: none" in err
    with StandIn() as server:
        words = ("--work_dir", tmp_path, "--signature=serving_default")
        code, _, err = smoke(capsys, "--server", server.address, *words)
    assert code == 2
    assert "does not take images" in err


def test_images_of_another_size_are_refused(tmp_path, capsys):
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 1, 3, 3) + bytes(9)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(images)
    _idx_labels(tmp_path, [0])
    with StandIn() as server:
        code, _, err = smoke(capsys, "--server", server.address, "--work_dir", tmp_path)
    assert code == 2
    assert "an image has 9" in err
