"""Names of networks: the path grammar, read in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from espalier.errors import EspalierError

_GRAMMAR = re.compile(
    r"(?P<dataset>[^/]+)/(?P<model>[^/]+)/(?P<pruner>[^/]+)/(?P<sparsity>0|0\.[0-9]+)"
    r"/seed(?P<seed>[0-9]+)(\.checkpoint(?P<checkpoint>[0-9]+))?(\.[^/]*)?$"
)


class Network(NamedTuple):
    """One trained network: what it was trained on, how, and how much of it was removed."""

    dataset: str
    model: str
    pruner: str
    sparsity: float
    seed: int
    checkpoint: int | None


def network_of_path(path: str | os.PathLike[str]) -> Network:
    """Return the network that a path of a result names.

    `checkpoint` is None where the path has none: the network at the end of its training.

    Raises:
        EspalierError: the path does not follow the grammar.
    """
    match = _GRAMMAR.search(os.fspath(path))
    if match is None:
        raise EspalierError(
            f"{os.fspath(path)} does not end in "
            "{dataset}/{model}/{pruner}/{sparsity}/seed{seed}[.checkpoint{k}].{extension}"
        )
    checkpoint = match["checkpoint"]
    return Network(
        match["dataset"],
        match["model"],
        match["pruner"],
        float(match["sparsity"]),
        int(match["seed"]),
        None if checkpoint is None else int(checkpoint),
    )


def detector_of_path(path: str | os.PathLike[str]) -> str:
    """Return the detector that the path of a hierarchy names, the part before its extension."""
    return Path(path).name.split(".")[-2]
