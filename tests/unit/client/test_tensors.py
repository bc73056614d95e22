"""Tensors: what is written is read back, and what servers send is read or refused."""

import numpy as np
import pytest
from slipway.core.errors import UsageError
from slipway_client import messages
from slipway_client.dtypes import DataType
from slipway_client.tensors import from_proto, to_proto

from tests.unit.client.sample_arrays import arrays


@pytest.mark.parametrize("name", arrays())
def test_what_is_written_is_read_back(name):
    array = arrays()[name]
    back = from_proto(to_proto(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.tobytes() == np.ascontiguousarray(array).astype(back.dtype).tobytes()


def test_typed_values_are_read_as_servers_send_them():
    proto = messages.TensorProto(dtype=DataType.DT_FLOAT, float_val=[0.25, 0.75])
    proto.tensor_shape.dim.add().size = 1
    proto.tensor_shape.dim.add().size = 2
    assert from_proto(proto).tolist() == [[0.25, 0.75]]
    large = messages.TensorProto(dtype=DataType.DT_UINT64, uint64_val=[0, 2**64 - 1])
    large.tensor_shape.dim.add().size = 2
    assert from_proto(large).tolist() == [0, 2**64 - 1]
    half = messages.TensorProto(dtype=DataType.DT_HALF, half_val=[0x3C00])
    half.tensor_shape.dim.add().size = 3
    assert from_proto(half).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "sizes", "words"),
    [
        ({"dtype": DataType.DT_FLOAT, "tensor_content": b"\0" * 7}, [2], "7 bytes of content"),
        ({"dtype": DataType.DT_FLOAT, "float_val": [1, 2, 3]}, [2], "3 values"),
        ({"dtype": DataType.DT_FLOAT}, [-1], "shape"),
        ({"dtype": DataType.DT_QINT8}, [1], "DT_QINT8"),
    ],
)
def test_an_answer_whose_content_and_shape_disagree_is_refused(fields, sizes, words):
    proto = messages.TensorProto(**fields)
    for size in sizes:
        proto.tensor_shape.dim.add().size = size
    with pytest.raises(ValueError, match=words):
        from_proto(proto)


def test_a_dtype_tensorflow_does_not_know_is_refused():
    with pytest.raises(UsageError, match="datetime64"):
        to_proto(np.array(["2020-01-01"], dtype="datetime64[D]"))
