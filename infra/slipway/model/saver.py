"""tf.train.Saver with answers: all, listed, matching or renamed variables, and what does not fit.

TensorFlow's own Saver writes and reads the files (.meta, .index, .data-*); this module chooses the
variables, and says in one message which file, variables and shapes do not fit. It loads TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import tensorflow as tf

from slipway.core.errors import ModelError, UsageError
from slipway.model.tensorflow_errors import reason

tf1 = tf.compat.v1

# None: all. Names or patterns (*, ?, [...]): those. A map: name in the checkpoint -> variable (or its
# name), as in Saver({'weights': w}).
Selection = None | Sequence[str] | Mapping[str, Any]

_SUFFIXES = (".index", ".meta")
# TensorFlow's checkpoint reader hands its status codes over as these.
_UNREADABLE = (tf.errors.OpError, ValueError, RuntimeError, LookupError)


@dataclass(frozen=True)
class Restoration:
    """Variable names. restored got the checkpoint's values, kept still have their own."""

    checkpoint: Path
    restored: tuple[str, ...]
    kept: tuple[str, ...]


def save(session: Any, path: Path, select: Selection = None, step: int | None = None) -> Path:
    """Write the chosen variables of the session's graph as a checkpoint; `step` is added to its name.

    Makes the folder. Returns the checkpoint's prefix. Raises UsageError for a name or pattern that
    matches no variable, ModelError when the files cannot be written or a variable has no value.
    """
    with session.graph.as_default():
        chosen = choose(session.graph, select)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            saver = tf1.train.Saver(chosen, max_to_keep=None)  # None: it never deletes an older one
            return Path(saver.save(session, str(path.absolute()), global_step=step))
        except (tf.errors.OpError, ValueError, OSError) as error:
            raise ModelError(f"cannot save {path}", tail=reason(error)) from error


def restore(session: Any, path: Path, select: Selection = None) -> Restoration:
    """Give the chosen variables of the session's graph the values they have in a checkpoint.

    `path`: the prefix, one of its files, or a folder (its latest checkpoint). All other variables keep
    the values they have. Raises ModelError that names the file, and every variable that is missing in
    it or has another shape or type; then no variable has changed.
    """
    prefix = find(path)
    with session.graph.as_default():
        chosen = choose(session.graph, select)
        _compare(prefix, chosen)
        try:
            tf1.train.Saver(chosen).restore(session, str(prefix))
        except (tf.errors.OpError, ValueError) as error:
            raise ModelError(
                f"checkpoint {prefix} is damaged: {_damaged(prefix, chosen) or 'TensorFlow cannot read it'}",
                tail=reason(error),
                action="copy or save the checkpoint again",
            ) from error
        names = {_name(variable) for variable in chosen.values()}
        everything = [_name(variable) for variable in tf1.global_variables()]
    return Restoration(
        prefix,
        tuple(name for name in everything if name in names),
        tuple(name for name in everything if name not in names),
    )


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of every variable in a checkpoint, read from its index alone."""
    reader = _reader(find(path))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    return {name: (dtypes[name].name, tuple(shapes[name])) for name in sorted(shapes)}


def choose(graph: Any, select: Selection) -> dict[str, Any]:
    """Name in the checkpoint -> variable of the graph.

    Raises UsageError for a name or pattern that matches nothing, listing what there is.
    """
    variables = {
        _name(variable): variable for variable in graph.get_collection(tf1.GraphKeys.GLOBAL_VARIABLES)
    }
    if not variables:
        raise UsageError("the graph has no variables to save or restore")
    there = f"the variables are {', '.join(sorted(variables))}"
    if select is None:
        return variables
    if isinstance(select, Mapping):
        unknown = [item for item in select.values() if isinstance(item, str) and item not in variables]
        if unknown:
            raise UsageError(f"no variable is called {', '.join(unknown)}", action=there)
        return {name: variables[item] if isinstance(item, str) else item for name, item in select.items()}
    chosen: dict[str, Any] = {}
    for pattern in select:
        matching = {name: item for name, item in variables.items() if fnmatchcase(name, pattern)}
        if not matching:
            raise UsageError(f"no variable matches {pattern!r}", action=there)
        chosen |= matching
    if not chosen:
        raise UsageError("an empty list selects no variable", action=f"{there}; leave it out for all of them")
    return chosen


def find(path: Path) -> Path:
    """The prefix of a checkpoint named by prefix, by one of its files or by its folder.

    Raises ModelError naming the file that is missing: .index, or a .data part.
    """
    prefix = path
    if path.is_dir():
        latest = tf.train.latest_checkpoint(str(path))
        if latest is None:
            raise ModelError(
                f"{path} holds no checkpoint", action="give the prefix a Saver wrote, e.g. run/model.ckpt"
            )
        prefix = Path(latest)
    elif path.suffix in _SUFFIXES or ".data-" in path.suffix:
        prefix = path.with_suffix("")
    index = prefix.with_name(f"{prefix.name}.index")
    if not index.is_file():
        beside = sorted(file.name.removesuffix(".index") for file in prefix.parent.glob("*.index"))
        raise ModelError(
            f"checkpoint {prefix} does not exist: no {index}",
            action=f"checkpoints beside it: {', '.join(beside)}" if beside else "check the path",
        )
    parts = list(prefix.parent.glob(f"{_literal(prefix.name)}.data-*-of-*"))
    wanted = int(parts[0].suffix.rpartition("-")[2]) if parts else 1
    missing = [
        name
        for number in range(wanted)
        if not (prefix.parent / (name := f"{prefix.name}.data-{number:05d}-of-{wanted:05d}")).is_file()
    ]
    if missing:
        raise ModelError(
            f"checkpoint {prefix} is incomplete: {', '.join(missing)} missing in {prefix.parent}",
            action="copy all its files: .index and every .data part",
        )
    return prefix


def _compare(prefix: Path, chosen: Mapping[str, Any]) -> None:
    held = contents(prefix)
    odds = []
    for name, variable in chosen.items():
        shape, dtype = tuple(variable.shape.as_list()), variable.dtype.base_dtype.name
        wants = f"{_name(variable)} is {dtype} {_shape(shape)}"
        if name not in held:
            odds.append(f"{name}: not in the checkpoint; the graph's {wants}")
        elif held[name] != (dtype, shape):
            odds.append(
                f"{name}: {held[name][0]} {_shape(held[name][1])} in the checkpoint; the graph's {wants}"
            )
    if odds:
        others = [f"{name} {_shape(shape)}" for name, (_, shape) in held.items() if name not in chosen]
        raise ModelError(
            f"checkpoint {prefix} does not fit: {len(odds)} of {len(chosen)} variables at odds",
            tail="\n".join(odds),
            action=f"also in the checkpoint: {', '.join(others)}; restore fewer variables, or rename them"
            if others
            else "restore fewer variables, or build the graph it was saved from (model.hidden: the "
            "perceptron's layers)",
        )


def _reader(prefix: Path) -> Any:
    try:
        return tf.train.load_checkpoint(str(prefix))
    except _UNREADABLE as error:
        raise ModelError(
            f"cannot read {prefix}.index: it is truncated or not a checkpoint",
            tail=reason(error),
            action="copy or save the checkpoint again",
        ) from error


def _damaged(prefix: Path, chosen: Mapping[str, Any]) -> str:
    """Which of the chosen variables cannot be read, with their shapes."""
    reader, held, out = _reader(prefix), contents(prefix), []
    for name in chosen:
        try:
            reader.get_tensor(name)
        except _UNREADABLE:
            out.append(f"{name} {_shape(held[name][1])}")
    return f"{', '.join(out)} cannot be read from its .data files" if out else ""


def _name(variable: Any) -> str:
    name: str = variable.op.name
    return name


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _literal(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
