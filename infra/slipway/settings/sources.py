"""What settings are read from: words of the environment, of flags and of a file, and how they are shown."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

# Hides user:password@ in addresses, up to the last @: a password may hold an unescaped @ or /. A name before
# an @ without a colon, as in `admin@cluster`, is not a secret.
_LOGIN = re.compile(r"""(?<=://).*@|(?<![^\s'"/:@])[^\s'"/:@]*+:(?!//).*@""", re.DOTALL)

_LONGEST_NAME = 64  # of what can be a misspelt key; comparing longer ones takes its time


def without_login(text: str) -> str:
    """A setting's text as it may be shown: no address keeps the login in it."""
    return _LOGIN.sub("***@", text)


def model_and_key(key: str) -> tuple[str, str]:
    """The model and the key of a section that a dotted key means; no model for a key of the file's own.

    models.mnist.deploy.replicas -> mnist, deploy.replicas. Names of models may have dots, keys have just one.
    """
    if not key.startswith("models."):
        return "", key
    name, section, option = ["", "", *key.removeprefix("models.").rsplit(".", 2)][-3:]
    return name, f"{section}.{option}"


def variable(key: str) -> str:
    """The environment variable of a setting: hosts.workers -> SLIPWAY_HOSTS_WORKERS."""
    return "SLIPWAY_" + key.replace(".", "_").upper()


def near(name: str, known: Mapping[str, Any] | set[str]) -> str:
    """What a name that is not known may have been meant to be, as the rest of a sentence."""
    close = difflib.get_close_matches(name, known, n=1) if len(name) < _LONGEST_NAME else []
    return (
        f"; did you mean {close[0]}?"
        if close
        else f"; known: {', '.join(sorted(known))}"
        if len(known) < 12
        else ""
    )


def _kinds(info: FieldInfo) -> set[Any]:
    """The plain types in a field's annotation, optional and annotated ones unwrapped."""
    out: set[Any] = set()
    todo: list[Any] = [info.annotation]
    while todo:
        kind = todo.pop()
        origin = get_origin(kind)
        if origin is Annotated:
            todo.append(get_args(kind)[0])
        elif origin in (Union, types.UnionType):
            todo += get_args(kind)
        else:
            out.add(origin or kind)
    return out


def parsed(info: FieldInfo, text: str) -> Any:
    """A value from the environment or a flag: lists are comma-separated."""
    if tuple in _kinds(info):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def located(info: FieldInfo, value: Any, base: Path) -> Any:
    """Resolve relative paths against `base`; addresses are left alone.

    Raises ValueError for what is no path: a NUL in it, a home folder of nobody, a name that is too long.
    """
    kinds = _kinds(info)
    if isinstance(value, list) and get_origin(info.annotation) is tuple:
        item = FieldInfo.from_annotation(get_args(info.annotation)[0])
        return [located(item, one, base) for one in value]
    if Path in kinds and isinstance(value, str) and not (str in kinds and "://" in value):
        try:
            return (base / Path(value).expanduser()).resolve()
        except OSError as error:
            raise ValueError(f"no path that can be used: {error.strerror}") from error
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"no path that can be used: {error}") from error
    return value
