"""Checkpoints: a state dict and metadata strings in one safetensors file; never pickle."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from espalier.errors import DamagedFileError, DataError
from espalier.files import atomic_path, content_digest

_DIGEST = "content_digest"


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors and strings atomically, with equal bytes for equal content."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, dict(metadata))
    # safetensors keeps metadata in a hash map, whose order changes from call to call.
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    facts = dict(sorted(header.get("__metadata__", {}).items()))
    content = data[8 + length :]
    header["__metadata__"] = facts
    header["__metadata__"] = {**facts, _DIGEST: _digest_of(header, content)}
    text = _header_text(header)
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + content)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and strings of a safetensors file.

    Raises:
        DataError: the file is missing or cannot be read.
        DamagedFileError: the file is truncated or damaged, or is not as it was written.
    """
    try:
        data = Path(path).read_bytes()
        # safetensors checks that header and offsets fit the file before it makes a tensor.
        tensors = load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    except (
        safetensors.SafetensorError,
        ValueError,
        KeyError,
        RecursionError,
        struct.error,
    ) as error:
        raise DamagedFileError(path, f"is not a readable safetensors file ({error})") from error
    metadata = header.get("__metadata__", {})
    expected = metadata.pop(_DIGEST, None)
    if expected is not None and _digest_of(header, data[8 + length :]) != expected:
        raise DamagedFileError(
            path, "is not as it was written: its digest does not fit its content"
        )
    return tensors, metadata


def _header_text(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()


def _digest_of(header: Mapping[str, Any], content: bytes) -> str:
    return content_digest(_header_text(header) + content)


def write_checkpoint(
    path: str | os.PathLike[str], model: nn.Module, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model's state dict and metadata, for example model, configuration, epoch, seed.

    The bytes depend on the content alone, not on memory layout, device or time.
    """
    write_tensors(path, model.state_dict(), metadata or {})


def read_checkpoint(path: str | os.PathLike[str], model: nn.Module) -> dict[str, str]:
    """Load a checkpoint into a model, in place, and return the metadata.

    Raises:
        DataError: the file is missing or damaged, or its names or shapes are not the model's.
    """
    tensors, metadata = read_tensors(path)
    load_tensors(model, tensors, str(path))
    return metadata


def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Copy tensors into a model's parameters and buffers, keeping their memory layout and device.

    Raises:
        DataError: names or shapes differ; the message starts with `origin`.
    """
    own = model.state_dict()
    missing = [name for name in own if name not in tensors]
    surplus = sorted(name for name in tensors if name not in own)
    if missing or surplus:
        raise DataError(
            f"{origin} belongs to another model: it lacks {missing or 'nothing'} "
            f"and has {surplus or 'nothing'} besides"
        )
    for name, target in own.items():
        if target.shape != tensors[name].shape:
            raise DataError(
                f"{origin}: {name} has shape {tuple(tensors[name].shape)} in the file, "
                f"{tuple(target.shape)} in the model"
            )
    with torch.no_grad():
        for name, target in own.items():
            target.copy_(tensors[name])
