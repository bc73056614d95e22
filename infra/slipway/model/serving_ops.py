"""The ops a SavedModel runs, and which server has them.

TensorFlow's runtime has its own ops only. Google's tensorflow_model_server links those of two more projects
into it, TensorFlow Text and Decision Forests (SUPPORTED_TENSORFLOW_OPS in model_servers/BUILD).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slipway_client import messages

from slipway.core import extras
from slipway.core.errors import ModelError
from slipway.core.events import Emit, silent
from slipway.model import tasks

if TYPE_CHECKING:
    from slipway.model.saved_model import ModelDescription

Server = Literal["portable", "tensorflow"]
_FORESTS = "SimpleML"  # tensorflow_decision_forests/tensorflow/ops/inference/op.cc
# tensorflow_text/core/ops and core/kernels at 738690814; newer ones have the prefix TFText> throughout
_TEXT = {
    *("CaseFoldUTF8", "ConstrainedSequence", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets"),
    *("FindSourceOffsets", "MaxSpanningTree", "NormalizeUTF8", "NormalizeUTF8WithOffsetsMap"),
    *("PhraseTokenize", "RegexSplitWithOffsets", "RougeL", "SentenceFragments", "SentenceFragmentsV2"),
    *("SentencepieceDetokenizeOp", "SentencepieceIdToStringOp", "SentencepieceOp"),
    *("SentencepieceStringToIdOp", "SentencepieceTokenizeOp", "SentencepieceTokenizeWithOffsetsOp"),
    *("SentencepieceVocabSizeOp", "SplitMergeTokenizeWithOffsets", "TokenizerFromLogits"),
    *("UnicodeScriptTokenizeWithOffsets", "WhitespaceTokenizeWithOffsets", "WordpieceTokenizeWithOffsets"),
}


def of_googles_server(ops: Iterable[str]) -> tuple[str, ...]:
    """Those that Google's server has and TensorFlow has not."""
    return tuple(op for op in ops if op in _TEXT or op.startswith(("TFText>", _FORESTS)))


def lacking(
    description: ModelDescription, server: Server, emit: Emit = silent, *, loaded: bool = False
) -> tuple[str, ...]:
    """The ops of the model that TensorFlow's runtime lacks: with any, it cannot be loaded on this machine.

    loaded: whether TensorFlow has loaded it before, and need not be asked. Without the extra `train` there is
    no TensorFlow here to ask, and only the ops that Google's server adds are known.

    Raises ModelError where the chosen server lacks them too.
    """
    ops = description.ops()
    google = of_googles_server(ops)
    others: tuple[str, ...] = ()
    known = loaded or description.intact  # what slipway exported itself
    if not google and not known and not extras.missing("train"):
        others = tuple(tasks.run("missing_ops", {"ops": ops}, emit)["missing"])
    if others:
        raise ModelError(
            f"{description.path} runs ops that no model server has: {', '.join(others)}",
            action="export it without them, or serve it with a server that their package is built into",
        )
    if google and server != "tensorflow":
        raise ModelError(
            f"{description.path} runs ops that TensorFlow does not have: {', '.join(google)}",
            where="image.server",
            action="set image.server: tensorflow; Google's server has those of Text and of Decision Forests",
        )
    return google


def missing(ops: Iterable[str]) -> tuple[str, ...]:
    """Those that TensorFlow's C library does not know; loads it, so run this in a process of its own."""
    spec = find_spec("tensorflow")
    folder = next(iter((spec and spec.submodule_search_locations) or [""]))
    library = ctypes.CDLL(str(Path(folder, "libtensorflow_cc.so.2")))
    library.TF_GetAllOpList.restype = ctypes.POINTER(_Buffer)
    buffer = library.TF_GetAllOpList().contents
    known = messages.OpList.FromString(ctypes.string_at(buffer.data, buffer.length))
    return tuple(sorted(set(ops) - {op.name for op in known.op}))


class _Buffer(ctypes.Structure):
    """TF_Buffer."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))
