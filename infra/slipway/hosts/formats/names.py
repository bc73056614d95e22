"""What a golden root is written as."""

from typing import Literal

Format = Literal["tar", "lxd", "qcow2", "oci"]
