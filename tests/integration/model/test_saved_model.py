"""Reading SavedModels without TensorFlow: slipway's own, a foreign one, and what is not a SavedModel."""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import ModelError
from slipway.model import saved_model, versions


def by_name(description: saved_model.ModelDescription) -> dict[str, saved_model.SignatureDescription]:
    return {signature.name: signature for signature in description.signatures()}


@pytest.mark.parametrize(
    ("folder", "inputs", "outputs"), [("names", "images", "scores"), ("tutorial", "inputs", "outputs")]
)
def test_both_signatures_are_as_servers_need_them(
    saved_apart: Path, folder: str, inputs: str, outputs: str
) -> None:
    signatures = by_name(saved_model.inspect(saved_apart / folder))
    assert set(signatures) == {"predict_images", "serving_default"}
    predict, classify = signatures["predict_images"], signatures["serving_default"]
    assert predict.method == "tensorflow/serving/predict"
    assert [(t.key, t.dtype, t.shape) for t in predict.inputs] == [(inputs, "DT_FLOAT", (-1, 784))]
    assert [(t.key, t.dtype, t.shape) for t in predict.outputs] == [(outputs, "DT_FLOAT", (-1, 10))]
    assert classify.method == "tensorflow/serving/classify"
    assert [(t.key, t.dtype, t.shape) for t in classify.inputs] == [("inputs", "DT_STRING", (-1,))]
    assert [(t.key, t.dtype, t.shape) for t in classify.outputs] == [
        ("classes", "DT_STRING", (-1, 10)),
        ("scores", "DT_FLOAT", (-1, 10)),
    ]


def test_a_foreign_saved_model_is_described_too(saved_apart: Path) -> None:
    description = saved_model.inspect(saved_apart / "foreign")
    assert (description.version, description.versions) == (12, (12,))
    assert description.accuracy is None
    assert description.intact is None
    assert set(by_name(description)) == {"double"}
    double = by_name(description)["double"]
    assert [(t.key, t.dtype, t.shape) for t in double.inputs] == [
        ("n", "DT_INT64", (-1,)),
        ("unit", "DT_STRING", ()),
    ]
    saved_model.require_servable(description)


@pytest.mark.parametrize("name", ["names", "foreign/12", "mute", "functions", "several"])
def test_the_text_is_what_saved_model_cli_prints(saved_apart: Path, name: str) -> None:
    """Below our own lines: TensorFlow's tool on the same file, compared line by line."""
    wanted = _lines((saved_apart / name).with_suffix(".txt").read_text())
    ours = _lines(saved_model.as_text(saved_model.inspect(saved_apart / name)))
    ours = ours[next(index for index, line in enumerate(ours) if line.startswith("MetaGraphDef")) :]
    functions = wanted.index("Concrete Functions:") if "Concrete Functions:" in wanted else len(wanted)
    assert ours[:functions] == wanted[:functions]
    # The order in which a function was traced is lost when TensorFlow loads it.
    assert sorted(ours[functions:]) == sorted(wanted[functions:])


def _lines(text: str) -> list[str]:
    """Lines that are not empty, without what is left to chance: the order of a set, erased commas."""
    out = []
    for line in text.replace(", \b\b", "").splitlines():
        head, mark, ops = line.rstrip().partition("the following ops: ")
        out.append(f"{head}{mark}{sorted(ast.literal_eval(ops))}" if mark else head)
    return [line for line in out if line]


def test_functions_are_described_without_tensorflow(saved_apart: Path) -> None:
    (graph,) = saved_model.inspect(saved_apart / "functions").meta_graphs
    calls = {function.name: function.calls for function in graph.functions or ()}
    assert set(calls) == {"any_rank", "words", "nothing", "nested", "traced", "bare"}
    assert calls["nothing"] == ((),)
    assert [argument.value for argument in calls["any_rank"][0]] == [
        "TensorSpec(shape=<unknown>, dtype=tf.float32, name='x')"
    ]
    assert len(calls["traced"]) == 2
    assert "StringUpper" in graph.ops


@pytest.mark.parametrize("damage", ["no object", "no function"])
def test_a_damaged_object_graph_is_told_and_keeps_nothing_else_from_being_told(
    saved_apart: Path, tmp_path: Path, damage: str
) -> None:
    message = saved_model.parse(saved_apart / "functions")
    objects = message.meta_graphs[0].object_graph_def
    if damage == "no object":
        objects.nodes[0].children[0].node_id = 1000
    else:
        objects.concrete_functions.clear()
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    description = saved_model.inspect(tmp_path)
    assert len(description.signatures()) == 3
    assert "Concrete Functions: N/A (the object graph is damaged: " in saved_model.as_text(description)


def test_inspect_does_not_load_tensorflow(saved_apart: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from slipway.model import saved_model; "
        "saved_model.inspect(Path(sys.argv[1])); "
        "sys.stdout.write(str([name for name in sys.modules if name.startswith('tensorflow')]))"
    )
    assert process.run([sys.executable, "-c", script, saved_apart / "names"]).stdout == "[]"


def test_a_model_without_signatures_is_refused(saved_apart: Path) -> None:
    with pytest.raises(ModelError, match="no signature a server could answer"):
        saved_model.require_servable(saved_model.inspect(saved_apart / "mute"))


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("variables.index", "variables/variables.index is missing"),
        ("variables.data-00000-of-00001", r"variables.data-\* is"),
    ],
)
def test_a_model_with_half_its_variables_is_refused(
    saved_apart: Path, tmp_path: Path, gone: str, said: str
) -> None:
    copy = Path(shutil.copytree(saved_apart / "names", tmp_path / "copy"))
    (copy / "variables" / gone).unlink()
    with pytest.raises(ModelError, match=said):
        saved_model.require_servable(saved_model.inspect(copy))


def empty(folder: Path) -> Path:
    return folder


def file(folder: Path) -> Path:
    (folder / "model.txt").write_text("no")
    return folder / "model.txt"


def text_form(folder: Path) -> Path:
    (folder / "saved_model.pbtxt").write_text("")
    return folder


def empty_version(folder: Path) -> Path:
    (folder / "3").mkdir()
    return folder


def several_models(folder: Path) -> Path:
    for name in ("mnist/1", "logs/2"):
        (folder / name).mkdir(parents=True)
    (folder / "mnist/1/saved_model.pb").touch()
    return folder


def chunks(folder: Path) -> Path:
    (folder / "saved_model.cpb").touch()
    return folder


def beyond_protobuf(folder: Path) -> Path:
    with (folder / "saved_model.pb").open("wb") as file:
        file.truncate(3 << 30)
    return folder


def damaged(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "saved_model.pb").write_bytes(content)
        return folder

    return make


NO_MODEL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda folder: folder / "nowhere", "nowhere is not a SavedModel: it does not exist"),
    "file": (file, "it is a file"),
    "empty": (empty, "has no saved_model.pb and no version folders"),
    "empty text": (text_form, "holds no graph"),
    "chunks": (chunks, "in chunks"),
    "beyond protobuf": (beyond_protobuf, "3221225472 bytes, more than the 2 GiB"),
    "empty version": (empty_version, "3 is not a SavedModel: it has no saved_model.pb"),
    "several": (several_models, "models in it: mnist ("),
    "empty file": (damaged(b""), "holds no graph"),
    "noise": (damaged(b"\xff" * 50), "cannot read"),
    "truncated": (damaged(b"\x12\xff\x7f\x01"), "cannot read"),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_what_is_no_saved_model_is_said(tmp_path: Path, case: str) -> None:
    make, says = NO_MODEL[case]
    with pytest.raises(ModelError) as refused:
        saved_model.inspect(make(tmp_path))
    assert says in refused.value.what


def test_versions_are_numbers_and_newest_is_by_number(tmp_path: Path) -> None:
    for name in ("2", "10", "9", "old", ".export-77", "1x"):
        (tmp_path / name).mkdir()
    (tmp_path / "33").write_text("a file")
    assert versions.numbers(tmp_path) == (2, 9, 10)
    assert versions.next_version(tmp_path) == 34
    (tmp_path / "0010").write_text("a file")
    (tmp_path / "09").write_text("a file")
    assert versions.numbers(tmp_path) == (2, 9, 10)
    (tmp_path / "011").mkdir()
    assert versions.folders(tmp_path)[11] == tmp_path / "011"


def test_a_model_as_text_is_described_alike(saved_apart: Path, tmp_path: Path) -> None:
    from google.protobuf import text_format

    from tests.unit.client.generated import message_class  # has every field, slipway reads a few of them

    whole = message_class("tensorflow.SavedModel").FromString(
        (saved_apart / "functions" / "saved_model.pb").read_bytes()
    )
    text = text_format.MessageToString(whole)
    (tmp_path / "saved_model.pbtxt").write_text(text)
    assert (
        saved_model.inspect(tmp_path).meta_graphs
        == saved_model.inspect(saved_apart / "functions").meta_graphs
    )
    (tmp_path / "saved_model.pbtxt").write_text(text[:-10])
    with pytest.raises(ModelError, match=r"cannot read .*saved_model\.pbtxt"):
        saved_model.inspect(tmp_path)


def test_a_record_that_is_not_slipways_is_not_believed(saved_apart: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(saved_apart / "names", tmp_path / "copy"))
    (copy / "assets.extra").mkdir(exist_ok=True)
    (copy / "assets.extra" / "slipway.json").write_text('{"accuracy": "high", "data": 5}')
    description = saved_model.inspect(copy)
    assert (description.accuracy, description.data) == (None, "")
    assert "accuracy" not in saved_model.as_text(description)


def test_the_checksum_is_over_names_and_contents(tmp_path: Path) -> None:
    def checksum(files: dict[str, bytes]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return saved_model.sha256(folder)

    first = checksum({"a": b"1", "b/c": b"2"})
    assert checksum({"b/c": b"2", "a": b"1"}) == first
    others = [
        {"a": b"1", "b/c": b"3"},
        {"a": b"1", "b/d": b"2"},
        {"a": b"2", "b/c": b"1"},
        {"a": b"1b/c2"},
        {"a": b"1", "b/c": b"2", "d": b""},
        {"ab/c": b"12"},
    ]
    assert len({first, *map(checksum, others)}) == len(others) + 1
