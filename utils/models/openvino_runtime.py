"""OpenVINO without its converter, whose import tells the makers so over the network, from a thread: a process that is forked meanwhile waits for
what that thread was importing for ever.
"""

import sys

sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]  # OpenVINO goes on without it

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "ov"]
