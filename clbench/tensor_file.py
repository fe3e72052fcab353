"""Writing a safetensors file; its header and single numbers in it, read without torch."""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clbench.disk import discard, new_mode, set_mode
from clbench.registry import ClbenchError

if TYPE_CHECKING:
    from torch import Tensor

_NUMBERS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}

_EXPONENTS: dict[str, tuple[Any, int]] = {
    "F64": (np.uint64, 0x7FF << 52), "F32": (np.uint32, 0xFF << 23), "F16": (np.uint16, 0x1F << 10),
    "BF16": (np.uint16, 0xFF << 7), "F8_E5M2": (np.uint8, 0x1F << 2), "F8_E4M3": (np.uint8, 0x7F),
}  # fmt: skip
"""The bits that are all set in NaN and infinite values alone; F8_E4M3 has one NaN of each sign, and nothing infinite."""


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file; ClbenchError if it is missing, truncated or something else."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
            if length > size - 8:
                raise ClbenchError(f"{path} is truncated or no safetensors file ({size} bytes)")
            header = json.loads(stream.read(length))
    except FileNotFoundError:
        raise ClbenchError(f"adapter not found: {path}") from None
    except OSError as error:
        raise ClbenchError(f"cannot read {path}: {error}") from None
    except ValueError:
        raise ClbenchError(f"{path} is no safetensors file: its header is not JSON") from None
    try:
        ends = [entry["data_offsets"][1] + 0 for name, entry in header.items() if name != "__metadata__"]
    except (AttributeError, KeyError, TypeError, IndexError):
        raise ClbenchError(f"{path} is no safetensors file: its header does not say where each tensor lies") from None
    if 8 + length + max(ends, default=0) != size:
        raise ClbenchError(
            f"{path} is truncated: {size} bytes, its header promises {8 + length + max(ends, default=0)}"
        )
    return header


def save_tensors(path: Path, tensors: Mapping[str, Tensor], strings: Mapping[str, str] | None = None) -> None:
    """safetensors' `save_file`, with the mode of any new file, and with an OSError for what the disk refuses.

    `path` is a part, which the caller renames: safetensors makes files that their owner alone may read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    mode = new_mode(path)
    try:
        save_file(dict(tensors), path, metadata=None if strings is None else dict(strings))
        set_mode(path, mode)
    except SafetensorError as error:
        number = re.search(r"I/O error.*\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def open_up(folder: Path) -> None:
    """Give the safetensors files that a ``save_pretrained`` has left in `folder`, at any depth, the mode of any new file."""
    probe = folder / ".mode.part"
    mode = new_mode(probe)
    discard(probe)
    for file in folder.rglob("*.safetensors"):
        set_mode(file, mode)


def put_tensors(what: str, path: Path, tensors: Mapping[str, Tensor], strings: Mapping[str, str] | None = None) -> None:
    """Write a file that appears whole or not at all; ClbenchError, which calls it `what`, if it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(part, tensors, strings)
        os.replace(part, path)
    except OSError as error:
        discard(part)
        raise ClbenchError(f"cannot write {what} {path}: {error.strerror or error}") from None


def is_zero(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether every number of a tensor of floats is 0 (or -0); `entry` is its line in the header."""
    begin, end = entry["data_offsets"]
    count = math.prod(entry["shape"])
    if count == 0:
        return True
    numbers = np.frombuffer(_raw(path, begin, end), np.uint8).reshape(count, -1)
    return not numbers[:, :-1].any() and not (numbers[:, -1] & 0x7F).any()  # the highest bit of the last byte is the sign


def not_finite(path: Path, names: Iterable[str]) -> str:
    """The first of these tensors that holds NaN or an infinite value, or ""; whole numbers hold none. Reads all of them."""
    header = read_header(path)
    for name in names:
        entry = header[name]
        kind, exponent = _EXPONENTS.get(entry["dtype"], (None, 0))
        if kind is None or math.prod(entry["shape"]) == 0:
            continue
        numbers = np.frombuffer(_raw(path, *entry["data_offsets"]), kind)
        if np.bitwise_and(numbers, kind(exponent)).max() == exponent:
            return name
    return ""


def sort_strings(path: Path) -> None:
    """Put the header's strings in the order of their names, in place: safetensors writes them in another one each time.

    So equal tensors with equal strings make equal files, which are known by their sha256.
    """
    with path.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        written = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(written) > length:
            raise ClbenchError(f"{path}: the sorted header has {len(written)} bytes, more than the {length} of the file's")
        stream.seek(8)
        stream.write(written.ljust(length))


def read_scalar(path: Path, name: str, entry: Mapping[str, Any]) -> float:
    """The one number that tensor `name` holds; `entry` is its line in the header."""
    begin, end = entry["data_offsets"]
    raw = _raw(path, begin, end)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        raw, kind = b"\0\0" + raw, "<f"
    else:
        kind = _NUMBERS.get(entry["dtype"], "")
    if not kind or len(raw) != struct.calcsize(kind):
        raise ClbenchError(f"{path}: '{name}' is not one number ({entry['dtype']} {entry['shape']})")
    return float(struct.unpack(kind, raw)[0])


def _raw(path: Path, begin: int, end: int) -> bytes:
    """Bytes begin..end behind the header."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        stream.seek(8 + length + begin)
        return stream.read(end - begin)
