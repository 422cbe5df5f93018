"""OpenVINO without its converter, whose import sends telemetry from a thread: a process forked in the meantime would wait for ever for
that thread's import lock.
"""

import sys

sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]  # OpenVINO goes on without it

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "ov"]
