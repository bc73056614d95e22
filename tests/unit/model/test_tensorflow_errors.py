"""TensorFlow's errors in one line."""

from __future__ import annotations

import pytest
from slipway.model.tensorflow_errors import reason

DEFINED = """Graph execution error:

Detected at node 'save/RestoreV2' defined at (most recent call last):
    File "<frozen runpy>", line 198, in _run_module_as_main
      main(sys.argv[1])
Node: 'save/RestoreV2'
Read less bytes than requested
\t [[{{node save/RestoreV2}}]]"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DEFINED, "Read less bytes than requested"),
        ("not an sstable (bad magic number)", "not an sstable (bad magic number)"),
        ("Matrix size-incompatible\n\t [[{{node MatMul}}]]", "Matrix size-incompatible"),
        ("", "ValueError"),
        ("x" * 900, "x" * 500),
    ],
)
def test_the_reason_is_the_line_that_says_why(text: str, says: str) -> None:
    assert reason(ValueError(text)) == says
