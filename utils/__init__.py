import os

__version__ = "0.4.0"

# Nothing that Reelset runs reports its use to its makers. ONNX Runtime, vLLM, Ray and the Hugging Face hub read these when they are imported; some of
# them report by default, and ONNX Runtime also writes a device id into the user's cache.
NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
}
for _name, _value in NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)
