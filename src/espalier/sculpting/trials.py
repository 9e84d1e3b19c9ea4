"""Reading the networks that the workflow stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from espalier.errors import DataError
from espalier.files import FilePath, read_npz
from espalier.sculpting.modules import Modules, detect_modules
from espalier.sculpting.networks import Network

Options = Mapping[str, Any]


def read_networks(path: FilePath) -> tuple[dict[int, tuple[Network, list[np.ndarray]]], Options]:
    """Read what `espalier.sculpting.stages.sculpt_networks` wrote.

    Returns:
        The pruned network and the weights of the dense one (one (n_out, n_in) matrix per layer) by
        seed, and the facts of the file.

    Raises:
        DataError: the file is missing.
        DamagedFileError: it is damaged.
    """
    arrays, facts = read_npz(path)
    widths = tuple(facts["widths"])
    networks = {}
    for seed in sorted({int(name.partition(".")[0].removeprefix("seed")) for name in arrays}):
        pruned = Network(
            widths, *(arrays[f"seed{seed}.{part}"] for part in ("edges", "weights", "biases"))
        )
        flat = arrays[f"seed{seed}.dense"]
        dense = Network(widths, np.arange(len(flat)), flat, pruned.biases)
        networks[seed] = pruned, dense.weight_matrices()
    return networks, facts


def modules_of_trial(path: FilePath, seed: int) -> tuple[Modules, Options]:
    """Return the modules of one trial of `read_networks`, and the facts of its file.

    Raises:
        DataError: the file is missing, or has no trial of this seed.
        DamagedFileError: it is damaged.
    """
    networks, facts = read_networks(path)
    if seed not in networks:
        raise DataError(
            f"{path} has no trial of seed {seed}; it has {', '.join(map(str, networks))}"
        )
    thresholds = (facts["modularity_threshold"], facts["merge_threshold"])
    return detect_modules(networks[seed][0].masks(), *thresholds), facts


__all__ = ["modules_of_trial", "read_networks"]
