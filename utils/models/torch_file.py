"""Tensors that `torch.save` wrote, read as arrays without PyTorch: such a file is a zip with a pickle of names and shapes, and a
member of bytes for each tensor.
"""

import os
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

STORAGES = {"FloatStorage": np.float32, "LongStorage": np.int64}


class _Tensors(pickle.Unpickler):
    """Knows what rebuilds a tensor, and refuses to look up anything else."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive, self.folder = archive, archive.namelist()[0].partition("/")[0]
        super().__init__(archive.open(f"{self.folder}/data.pkl"))

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {"collections.OrderedDict": OrderedDict, "torch._utils._rebuild_tensor_v2": _tensor}
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"{module}.{name} belongs to no tensor")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: tuple) -> np.ndarray:
        _, dtype, key, *_ = pid
        return np.frombuffer(self.archive.read(f"{self.folder}/data/{key}"), dtype)


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], *_: Any) -> np.ndarray:
    return storage[offset : offset + int(np.prod(shape))].reshape(shape)  # contiguous, as layers' weights are


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays by their names, read-only.

    Raises: `pickle.UnpicklingError` where the file would call anything but what rebuilds tensors.
    """
    with zipfile.ZipFile(path) as archive:
        return _Tensors(archive).load()
