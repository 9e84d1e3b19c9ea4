"""The one seed rule: every random draw comes from a named stream of one seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return a 63-bit seed for a named stream, for example `derive_seed(0, "shuffle", epoch)`.

    Streams are independent of each other and of the order in which they are asked for; the
    integer 1 and the string "1" are different names.
    """
    text = repr((int(seed), *stream)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a NumPy generator on a named stream of `seed`."""
    return np.random.default_rng(derive_seed(seed, *stream))


def torch_generator(seed: int, *stream: str | int, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on a named stream of `seed`."""
    import torch

    generator = torch.Generator(device=device)
    generator.manual_seed(derive_seed(seed, *stream))
    return generator
