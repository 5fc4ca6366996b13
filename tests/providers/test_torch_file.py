"""PyTorch checkpoints are read as data: equal to the same weights elsewhere; nothing in them is run."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.providers.clip_forms import WHOLE
from vectable.errors import ModelUnavailable
from vectable.providers.torch_file import TorchFile


def test_a_checkpoint_holds_what_the_safetensors_file_holds() -> None:
    found, expected = TorchFile(WHOLE / "pytorch_model.bin"), load_file(WHOLE / "model.safetensors")
    assert set(found.keys()) >= set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found.get_tensor(name), values)


class Storage:
    """Stands for a storage in what a test writes; pickled as PyTorch refers to one."""

    def __init__(self, kind: str, values: np.ndarray) -> None:
        self.kind, self.values = kind, values


class Named:
    """Pickled as a bare reference to `module.name`, which need not exist."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickled as a call."""

    def __init__(self, function: Named, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Writer(pickle._Pickler):  # type: ignore[misc, name-defined]
    """Pickles as PyTorch does, without PyTorch."""

    def persistent_id(self, given: Any) -> Any:
        if not isinstance(given, Storage):
            return None
        key = self.keys.setdefault(id(given), str(len(self.keys)))
        return ("storage", Named("torch", given.kind), key, "cpu", given.values.size)

    def save(self, given: Any, save_persistent_id: bool = True) -> None:
        if isinstance(given, Named):
            self.write(b"c" + f"{given.module}\n{given.name}\n".encode())
        elif isinstance(given, Call):
            self.save(given.function)
            self.save(given.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(given, save_persistent_id)


REBUILD = Named("torch._utils", "_rebuild_tensor_v2")


def tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Call:
    return Call(REBUILD, storage, offset, shape, strides, False, collections.OrderedDict())


def write(path: Path, content: Any, storages: list[Storage]) -> Path:
    """In the zip format."""
    listing = io.BytesIO()
    writer = Writer(listing, 2)
    writer.keys = {id(storage): str(i) for i, storage in enumerate(storages)}
    writer.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", listing.getvalue())
        for i, storage in enumerate(storages):
            archive.writestr(f"archive/data/{i}", storage.values.tobytes())
    return path


def test_views_and_shared_storages_and_half_precisions(tmp_path: Path) -> None:
    whole = Storage("FloatStorage", np.arange(12, dtype="<f4"))
    half = Storage("HalfStorage", np.array([1.5, -2], "<f2"))
    brain = Storage("BFloat16Storage", np.array([0x3FC0, 0xC000], "<u2"))
    content = {
        "turned": tensor(whole, 0, (4, 3), (1, 4)),
        "middle": tensor(whole, 4, (2, 2), (4, 1)),
        "half": tensor(half, 0, (2,), (1,)),
        "brain": tensor(brain, 0, (2,), (1,)),
        "single": tensor(whole, 11, (), ()),
        "steps": 7,
    }
    found = TorchFile(write(tmp_path / "model.bin", content, [whole, half, brain]))
    assert set(found.keys()) == {"turned", "middle", "half", "brain", "single"}
    np.testing.assert_array_equal(found.get_tensor("turned"), np.arange(12).reshape(3, 4).T)
    np.testing.assert_array_equal(found.get_tensor("middle"), [[4, 5], [8, 9]])
    np.testing.assert_array_equal(found.get_tensor("half"), [1.5, -2])
    np.testing.assert_array_equal(found.get_tensor("brain"), [1.5, -2])
    assert found.get_tensor("single") == 11


def test_what_would_run_something_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    call = Call(Named("os", "mkdir"), str(marker))
    with pytest.raises(ModelUnavailable, match=r"os\.mkdir"):
        TorchFile(write(tmp_path / "evil.bin", {"weight": call}, []))
    (tmp_path / "old.bin").write_bytes(pickle.dumps(1, 2) * 3 + pickle.dumps(marker, 2))
    with pytest.raises(ModelUnavailable, match=r"PosixPath|instruction|calls"):
        TorchFile(tmp_path / "old.bin")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(10, (4,), (1,)), (0, (2,), (20,)), (-1, (2,), (1,))]
)
def test_a_tensor_outside_its_storage_is_refused(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...], tmp_path: Path
) -> None:
    storage = Storage("FloatStorage", np.arange(12, dtype="<f4"))
    found = TorchFile(
        write(tmp_path / "model.bin", {"w": tensor(storage, offset, shape, strides)}, [storage])
    )
    with pytest.raises(ValueError, match="outside"):
        found.get_tensor("w")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps([1, 2], 2), b"\x80\x02}q\x00"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ModelUnavailable, match="checkpoint"):
        TorchFile(tmp_path / "model.bin")


def test_every_cut_of_a_checkpoint_is_refused_or_read_whole(tmp_path: Path) -> None:
    whole = (WHOLE / "pytorch_model.bin").read_bytes()
    path = tmp_path / "model.bin"
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelUnavailable):
            TorchFile(path)
