"""A Hugging Face directory on disk: its config, and where each tensor lies. Knows no architecture."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from prfaas.core.errors import ModelError
from prfaas.core.model_files import read_config, read_json

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_HEADER_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor in a safetensors file."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: str
    """As safetensors spells it: F32, BF16, ..."""
    offset: int
    """Of its first byte in the file."""
    num_bytes: int


@dataclass(frozen=True)
class Checkpoint:
    """An opened model directory. Tensors are memory-mapped and read on demand."""

    directory: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    def read(self, name: str) -> Tensor:
        """The tensor as stored, backed by the mapped file. Raises ModelError if the file no longer allows it."""
        stored = self.tensors[name]
        try:
            if stored.file not in self._open_files:
                self._open_files[stored.file] = safe_open(stored.file, framework="pt")
            tensor: Tensor = self._open_files[stored.file].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{stored.file}: cannot read tensor {name}: {error}") from error
        return tensor

    @cached_property
    def _open_files(self) -> dict[Path, Any]:
        """Opening a shard parses a header of all its tensors, too much to do for each of them."""
        return {}

    @cached_property
    def generation_config(self) -> Mapping[str, Any]:
        """The contents of generation_config.json, empty if there is none. Raises ModelError if it is not JSON."""
        path = self.directory / "generation_config.json"
        return read_json(path) if path.is_file() else {}


def open_checkpoint(directory: Path) -> Checkpoint:
    """Opens a Hugging Face model directory and indexes its tensors. Raises ModelError naming what is at fault."""
    config = read_config(directory)
    tensors: dict[str, StoredTensor] = {}
    for file in _weight_files(directory):
        tensors |= {tensor.name: tensor for tensor in _stored_tensors(file)}
    return Checkpoint(directory, config, tensors)


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        files = [directory / "model.safetensors"]
    else:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{index}: has no weight_map from tensors to files")
        files = [directory / str(name) for name in sorted(set(weight_map.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelError(f"{directory} lacks weight files: {', '.join(missing)}")
    return files


def _stored_tensors(file: Path) -> list[StoredTensor]:
    """Reads the header of a safetensors file and checks it against the file's size."""
    try:
        header, data_start = _read_header(file)
        data_bytes = file.stat().st_size - data_start
        tensors = [_stored(file, name, entry, data_start) for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file}: malformed safetensors header: {error!r}") from error
    end = max((tensor.offset + tensor.num_bytes for tensor in tensors), default=data_start) - data_start
    if end > data_bytes:
        raise ModelError(f"{file}: truncated: its header describes {end} bytes of tensors, it holds {data_bytes}")
    return tensors


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, file.stat().st_size):
            raise ModelError(f"{file}: not a safetensors file (header of {length} bytes)")
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise ModelError(f"{file}: not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise ModelError(f"{file}: not a safetensors file: its header is not an object")
    return header, _HEADER_LENGTH_BYTES + length


def _stored(file: Path, name: str, entry: Mapping[str, Any], data_start: int) -> StoredTensor:
    begin, end = (int(at) for at in entry["data_offsets"])
    shape, dtype = tuple(int(d) for d in entry["shape"]), str(entry["dtype"])
    if dtype in _BYTES and prod(shape) * _BYTES[dtype] != end - begin:
        raise ModelError(f"{file}: tensor {name} of shape {list(shape)} {dtype} occupies {end - begin} bytes")
    return StoredTensor(name, file, shape, dtype, data_start + begin, end - begin)
