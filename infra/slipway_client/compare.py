"""Compare answers with recorded answers, with labels, and with each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slipway_client.errors import harmless
from slipway_client.json_values import BFLOAT16, Array, ShapeOnly, dtype_of, is_floating

# From 1 to the next number of a type; of complex numbers that of their parts.
_STEPS = {
    "bfloat16": 2.0**-7,
    "float16": 2.0**-10,
    **dict.fromkeys(("float32", "complex64"), 2.0**-23),
    **dict.fromkeys(("float64", "complex128"), 2.0**-52),
}


def difference(
    expected: Mapping[str, Array | ShapeOnly],
    got: Mapping[str, Array],
    tolerance: float,
    *,
    word: str = "recorded",
) -> str:
    """Describe in one line where an answer differs from the expected one; empty if it does not.

    Numbers may be `tolerance` and one step of their type apart (the next half after 2.5 is 2.502); with
    tolerance 0 they must be equal. NaN equals NaN. Strings and classes must be the same.
    Of an output known by dtype and shape alone these are compared. An output that is missing counts as a
    difference, an additional one does not.
    """
    for name, wanted in expected.items():
        if name not in got:
            there = harmless(", ".join(sorted(got)))  # the server's words
            return f"output {name} is missing; the answer has {there or 'none'}"
        have = got[name]
        if isinstance(wanted, ShapeOnly):
            if not _has_form(have, wanted):
                form = f"{dtype_of(have)} {list(have.shape)}"
                return f"{name} is {form}, {word} {wanted.dtype} {list(wanted.shape)}"
            continue
        if have.shape != wanted.shape:
            return f"{name} has shape {list(have.shape)}, {word} {list(wanted.shape)}"
        if (have.dtype == object) != (wanted.dtype == object):
            return f"{name} is {_kind(have)}, {word} {_kind(wanted)}"
        if wanted.dtype == object:
            off = np.array(
                [a != b for a, b in zip(wanted.ravel().tolist(), have.ravel().tolist(), strict=True)],
                dtype=bool,
            )
        elif is_floating(wanted.dtype) or wanted.dtype.kind == "c":
            step = _STEPS[wanted.dtype.name] if tolerance else 0.0
            with np.errstate(invalid="ignore"):  # infinity minus infinity
                off = ~np.isclose(_wide(have), _wide(wanted), rtol=step, atol=tolerance, equal_nan=True)
        else:
            off = have.ravel() != wanted.ravel()
        if off.any():
            place = int(np.flatnonzero(off)[0])
            where = ",".join(str(int(index)) for index in np.unravel_index(place, wanted.shape))
            more = f" ({int(off.sum())} of {off.size} values differ)" if off.sum() > 1 else ""
            return f"{name}[{where}] is {_show(have, place)}, {word} {_show(wanted, place)}{more}"
    return ""


def _has_form(have: Array, wanted: ShapeOnly) -> bool:
    sizes = zip(have.shape, wanted.shape, strict=False)
    return (
        dtype_of(have) == wanted.dtype
        and have.ndim == len(wanted.shape)
        and all(known in (size, -1) for size, known in sizes)
    )


def _wide(array: Array) -> Array:
    """Flat, and of a type in which differences of its numbers do not overflow."""
    flat = array.ravel()
    return flat.astype(np.float32) if flat.dtype in (np.float16, BFLOAT16) else flat


def predicted_classes(outputs: Mapping[str, Array], rows: int) -> list[int] | None:
    """The class each row of an answer stands for, or None if the answer is not that of a classifier.

    A classification names its classes, best first. Otherwise it is the one two-dimensional output of
    numbers with that many rows, and the place of its largest value.
    """
    classes, scores = outputs.get("classes"), outputs.get("scores")
    if classes is not None and classes.dtype == object and classes.ndim == 2 and classes.shape[1]:
        if classes.shape[0] != rows:
            return None
        if scores is not None and scores.shape != classes.shape:
            return None
        best = np.zeros(rows, int) if scores is None else np.argmax(scores, axis=1)
        named = [classes[row, place].decode(errors="replace") for row, place in enumerate(best)]
        if all(map(_is_number, named)):
            return [int(name) for name in named]
        return None
    found = [
        array
        for array in outputs.values()
        if is_floating(array.dtype) and array.ndim == 2 and array.shape[0] == rows and array.shape[1] > 1
    ]
    return (
        [int(place) for place in np.argmax(found[0].astype(np.float64), axis=1)] if len(found) == 1 else None
    )


def disagreement(scores: Array, classified: Mapping[str, Array], tolerance: float) -> str:
    """Where a classification contradicts the scores of Predict for the same rows; empty if nowhere."""
    classes, given = classified["classes"], classified["scores"]
    if given.shape[0] != scores.shape[0]:
        return f"Classify answered {given.shape[0]} examples, Predict {scores.shape[0]}"
    for row in range(scores.shape[0]):
        for place in range(given.shape[1]):
            name = classes[row, place].decode(errors="replace")
            # A classification without class names lists the scores in the order of the classes.
            number = int(name) if _is_number(name) else place if not name else -1
            if not 0 <= number < scores.shape[1]:
                return f"Classify names class {name!r}, Predict has {scores.shape[1]} scores"
            apart = abs(float(given[row, place]) - float(scores[row, number]))
            if not apart <= tolerance:
                return (
                    f"row {row}: Classify gives class {number} the score {given[row, place]:.6g},"
                    f" Predict {scores[row, number]:.6g}"
                )
    return ""


def _is_number(name: str) -> bool:
    """Whether a class is called by its number, of so few digits that Python converts them."""
    return name.isdecimal() and len(name) < 19


def _show(array: Array, place: int) -> str:
    item = array.ravel()[place]
    return (
        repr(item)
        if array.dtype == object
        else f"{float(item):.7g}"
        if is_floating(array.dtype)
        else str(item)
    )


def _kind(array: Array) -> str:
    return "strings" if array.dtype == object else str(array.dtype)
