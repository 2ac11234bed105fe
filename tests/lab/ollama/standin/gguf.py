"""GGUF files, read and written: their metadata, and where their tensors lie."""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

ALIGNMENT = 32

# Codes of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
F32, F16 = 0, 1
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_UINT32, _INT32, _FLOAT32, _BOOL = 4, 5, 6, 7

Value = str | int | float | bool | list[str] | list[int]


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies; its shape is the usual one, rows first."""

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Gguf:
    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read(path: Path) -> Gguf:
    """The file's metadata and the places of its tensors."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        cursor = _Cursor(data)
        magic = data[:4]
        if magic != b"GGUF":
            raise ValueError(f"{path} = starts with {magic!r}; a GGUF file is needed")
        cursor.at = 8
        tensor_count, value_count = cursor.scalar("Q"), cursor.scalar("Q")
        metadata = {cursor.string(): cursor.value(cursor.scalar("I")) for _ in range(value_count)}
        found: dict[str, Tensor] = {}
        for _ in range(tensor_count):
            name = cursor.string()
            shape = tuple(cursor.scalar("Q") for _ in range(cursor.scalar("I")))
            kind, offset = cursor.scalar("I"), cursor.scalar("Q")
            found[name] = Tensor(shape[::-1], kind, offset)
        start = _aligned(cursor.at)
    tensors = {name: Tensor(one.shape, one.kind, start + one.offset) for name, one in found.items()}
    return Gguf(path, metadata, tensors)


def write(
    file: BinaryIO, metadata: dict[str, Value], tensors: Sequence[tuple[str, tuple[int, ...], int, bytes]]
) -> None:
    """One GGUF file; the same input gives the same bytes."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    head += [_string(key) + _typed(value) for key, value in metadata.items()]
    offset = 0
    for name, shape, kind, data in tensors:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        head.append(_string(name) + dimensions + struct.pack("<IQ", kind, offset))
        offset = _aligned(offset + len(data))
    _padded(file, b"".join(head))
    for _, _, _, data in tensors:
        _padded(file, data)


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def scalar(self, code: str) -> Any:
        value = struct.unpack_from(f"<{code}", self.data, self.at)[0]
        self.at += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        length = self.scalar("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.scalar("I"), self.scalar("Q")
            return [self.value(inner) for _ in range(count)]
        return self.scalar(_SCALARS[kind])


def _typed(value: Value) -> bytes:
    # A bool is an int to Python, so it comes first.
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if value and isinstance(value[0], str):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(_string(str(one)) for one in value)
    return struct.pack(f"<IIQ{len(value)}i", _ARRAY, _INT32, len(value), *value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _padded(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.write(b"\0" * (_aligned(len(data)) - len(data)))
