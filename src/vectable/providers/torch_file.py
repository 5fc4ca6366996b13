"""PyTorch checkpoints read as data: the pickled part is followed instruction by instruction and may only
describe tensors. Nothing in the file is executed or imported; anything else in it is refused."""

from __future__ import annotations

import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vectable.errors import ModelUnavailable

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
    "BFloat16Storage": "<u2",
}
_PARTS_BEFORE = 3
"""Magic number, protocol and a description of the machine stand before the tensors of the older format."""
_COUNT_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Global:
    """A name the file refers to; never looked up."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    kind: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    pass


class TorchFile:
    """The tensors of a state dictionary saved by PyTorch, in its zip format or the one before it."""

    def __init__(self, path: Path) -> None:
        """Reads names and shapes; tensors are read when asked for. Raises ModelUnavailable for anything but
        a dictionary of tensors."""
        self._path = path
        try:
            tensors, self._where = _zipped(path) if zipfile.is_zipfile(path) else _sequential(path)
        except (OSError, ValueError, KeyError, IndexError, TypeError, zipfile.BadZipFile) as error:
            raise ModelUnavailable(f"{path} cannot be read as a PyTorch checkpoint: {error}") from None
        self._tensors = {n: t for n, t in tensors.items() if isinstance(n, str) and isinstance(t, _Tensor)}

    def keys(self) -> list[str]:
        """The names of the tensors."""
        return list(self._tensors)

    def get_tensor(self, name: str) -> NDArray[Any]:
        """A copy of a tensor; bfloat16 as float32. Raises KeyError, ValueError where it lies outside its
        storage."""
        tensor = self._tensors[name]
        dtype = np.dtype(_STORAGES[tensor.storage.kind])
        start, length = self._where[tensor.storage.key]
        end = tensor.offset + 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
        outside = min((tensor.offset, *tensor.shape, *tensor.strides), default=0) < 0
        if outside or end > tensor.storage.count or tensor.storage.count * dtype.itemsize > length:
            raise ValueError(f"the tensor {name} lies outside its storage")
        with open(self._path, "rb") as file:
            file.seek(start + tensor.offset * dtype.itemsize)
            flat = np.fromfile(file, dtype, max(end - tensor.offset, 0))
        strides = tuple(s * dtype.itemsize for s in tensor.strides)
        found = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
        if tensor.storage.kind == "BFloat16Storage":
            return (found.astype(np.uint32) << 16).view(np.float32)
        return found.copy()


_Places = dict[str, tuple[int, int]]
"""Where each storage's numbers begin in the file, and how many bytes there are."""


def _sequential(path: Path) -> tuple[dict[Any, Any], _Places]:
    places: _Places = {}
    with open(path, "rb") as file:
        for _ in range(_PARTS_BEFORE):
            _follow(file)
        tensors = _dictionary(_follow(file))
        storages = {t.storage.key: t.storage for t in tensors.values() if isinstance(t, _Tensor)}
        size = path.stat().st_size
        for key in _follow(file):
            count = int.from_bytes(file.read(_COUNT_BYTES), "little")
            storage = storages.get(key)
            if storage is None or storage.count != count:
                raise ValueError(f"its storage {key!r} does not fit")
            length = count * np.dtype(_STORAGES[storage.kind]).itemsize
            places[key] = (file.tell(), length)
            if file.tell() + length > size:
                raise ValueError("it is cut short")
            file.seek(length, 1)
    return tensors, places


def _zipped(path: Path) -> tuple[dict[Any, Any], _Places]:
    places: _Places = {}
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        inside = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        with archive.open(inside) as listing:
            tensors = _dictionary(_follow(listing))
        prefix = inside.removesuffix("data.pkl") + "data/"
        for info in archive.infolist():
            if not info.filename.startswith(prefix):
                continue
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("its tensors are compressed")
            file.seek(info.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            places[info.filename.removeprefix(prefix)] = (
                info.header_offset + 30 + name + extra,
                info.file_size,
            )
    return tensors, places


def _dictionary(found: Any) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise ValueError("it holds no dictionary of tensors")
    inner = found.get("state_dict")
    return inner if isinstance(inner, dict) else found


def _follow(file: IO[bytes]) -> Any:
    """What one pickled part describes. Raises ValueError for any instruction or name not known here."""
    machine = _Machine()
    for operation, argument, _ in _operations(file):
        if operation == "STOP":
            return machine.stack.pop()
        machine.step(operation, argument)
    raise ValueError("it is cut short")


def _operations(file: IO[bytes]) -> Iterator[tuple[str, Any, Any]]:
    for operation, argument, position in pickletools.genops(file):
        yield operation.name, argument, position


class _Machine:
    """A stack and a memory that hold only plain data and descriptions of tensors."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def step(self, operation: str, argument: Any) -> None:
        if operation in _PLAIN:
            self.stack.append(argument)
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation]())
        elif operation in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memory[len(self._memory) if argument is None else argument] = self.stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memory[argument])
        elif operation == "GLOBAL":
            self.stack.append(_Global(argument.replace(" ", ".")))
        elif operation in _ACTIONS:
            _ACTIONS[operation](self.stack)
        elif operation not in ("PROTO", "FRAME"):
            raise ValueError(f"it holds the instruction {operation}, which describes no tensor")


_PLAIN = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": _Mark,
}


def _to_mark(stack: list[Any]) -> list[Any]:
    items: list[Any] = []
    while not isinstance(one := stack.pop(), _Mark):
        items.append(one)
    return items[::-1]


def _tuple(stack: list[Any], size: int) -> None:
    stack[-size:] = [tuple(stack[-size:])]


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1][key] = value


def _set_items(stack: list[Any]) -> None:
    items = _to_mark(stack)
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _append(stack: list[Any], items: list[Any]) -> None:
    stack[-1].extend(items)


def _build(stack: list[Any]) -> None:
    """The attributes of a dictionary (its metadata) describe no tensor."""
    stack.pop()
    if not isinstance(stack[-1], dict):
        raise ValueError("it holds an object that is no tensor")


def _storage(stack: list[Any]) -> None:
    tag, kind, key, _, count, *view = stack.pop()
    name = kind.name.removeprefix("torch.") if isinstance(kind, _Global) else ""
    if tag != "storage" or name not in _STORAGES or any(view):
        raise ValueError("it holds something other than tensors")
    stack.append(_Storage(name, str(key), int(count)))


def _reduce(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    name = function.name if isinstance(function, _Global) else ""
    if name == "collections.OrderedDict" and not arguments:
        stack.append({})
    elif name == "torch._utils._rebuild_tensor_v2" and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        if math.prod(shape) > storage.count:
            raise ValueError("a tensor is larger than its storage")
        stack.append(_Tensor(storage, int(offset), tuple(shape), tuple(strides)))
    elif name == "torch._utils._rebuild_parameter" and isinstance(arguments[0], _Tensor):
        stack.append(arguments[0])
    else:
        raise ValueError(f"it calls {name or 'something'}, which makes no tensor")


_ACTIONS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": lambda stack: stack.append(tuple(_to_mark(stack))),
    "TUPLE1": lambda stack: _tuple(stack, 1),
    "TUPLE2": lambda stack: _tuple(stack, 2),
    "TUPLE3": lambda stack: _tuple(stack, 3),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": lambda stack: _append(stack, [stack.pop()]),
    "APPENDS": lambda stack: _append(stack, _to_mark(stack)),
    "BINPERSID": _storage,
    "REDUCE": _reduce,
    "BUILD": _build,
}
