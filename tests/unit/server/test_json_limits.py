"""What a REST body costs, told from its bytes."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slipway_server import json_limits
from slipway_server.codes import Code, StatusError

documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=5)
    ),
)


def count(document: Any) -> int:
    if isinstance(document, dict):
        return 1 + sum(map(count, document.values()))
    return 1 + (sum(map(count, document)) if isinstance(document, list) else 0)


@settings(deadline=None)  # a busy machine is no fault
@given(documents)
def test_never_fewer_values_than_there_are(document: Any) -> None:
    assert json_limits.values_in(json.dumps(document).encode()) >= count(document)


def test_a_body_may_hold_a_value_for_every_four_bytes_of_the_largest() -> None:
    json_limits.check_values(b"[" + b"0," * 254 + b"0]", 1024)
    with pytest.raises(
        StatusError, match=r"up to 257 values, this server takes 256 \(--rest_body_limit\)"
    ) as error:
        json_limits.check_values(b"[" + b"0," * 255 + b"0]", 1024)
    assert error.value.code is Code.RESOURCE_EXHAUSTED


def test_gzip_is_unpacked_up_to_the_limit() -> None:
    assert json_limits.unpacked(gzip.compress(b"a" * 1000), 1000) == b"a" * 1000
    for body, pattern in (
        (gzip.compress(b"a" * 1001), "larger than 1000 bytes when unpacked"),
        (gzip.compress(b"abc")[:-9], "ends too early"),
        (b"abc", "not gzip data"),
    ):
        with pytest.raises(StatusError, match=pattern) as error:
            json_limits.unpacked(body, 1000)
        assert error.value.code is Code.INVALID_ARGUMENT
