"""What the exported model calls its signatures, inputs and outputs."""

from __future__ import annotations

from typing import Final

PREDICT: Final = "predict_images"
FEATURE: Final = "x"  # of the tf.Examples that the default signature classifies
# model.signature_keys -> input and output of PREDICT
KEYS: Final = {"names": ("images", "scores"), "tutorial": ("inputs", "outputs")}
