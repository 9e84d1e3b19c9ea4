"""What a job of several networks shares: parts kept until all are done, accuracies, metrics."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espalier.data.inputs import Normalisation
from espalier.data.splits import SplitImages
from espalier.files import FilePath, atomic_path, write_json
from espalier.networks import network_of_path
from espalier.provenance import digest
from espalier.pruning.masks import achieved_sparsity
from espalier.pruning.report import collapsed_layers
from espalier.training.loop import History, evaluate


class Kept:
    """Finished parts of a job, until the whole job is done; other settings have other names."""

    def __init__(self, folder: FilePath, identity: Any) -> None:
        self.folder = Path(folder)
        self._prefix = digest(identity)

    def path(self, name: str) -> Path:
        """Return where a part of this name is kept."""
        return self.folder / f"{self._prefix}.{name}"

    def clear(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)


def state_folder(output: FilePath) -> Path:
    """Return the hidden folder of a job's resumable state, beside its first output."""
    return Path(output).with_name(f".{Path(output).stem}.state")


def deliver(source: Path, target: FilePath) -> None:
    """Copy a finished part to its place, atomically."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def file_digest(path: FilePath) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def accuracies(
    model: nn.Module,
    parts: SplitImages,
    device: torch.device,
    normalisation: Normalisation,
    checkpoint: int,
    epoch: int,
) -> dict[str, Any]:
    """Return what a network scores, for its metrics; None where no image validates."""
    model.to(device)

    def share(images: np.ndarray, labels: np.ndarray) -> float | None:
        if len(labels) == 0:
            return None
        return evaluate(model, images, labels, device=device, normalisation=normalisation)

    return {
        "checkpoint": checkpoint,
        "epoch": epoch,
        "validation_accuracy": share(*parts.validation),
        "test_accuracy": share(*parts.test),
    }


def write_metrics(
    path: FilePath,
    network_path: FilePath,
    entries: Sequence[Mapping[str, Any]],
    history: History,
    device: torch.device,
    facts: Mapping[str, Any],
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the metrics of a network.

    Args:
        path: JSON to write.
        network_path: any path that names the network.
        entries: accuracies by checkpoint.
        history: what training measured.
        device: where it was trained.
        facts: provenance.
        masks: those of a pruned network, for its achieved sparsity.
    """
    network = network_of_path(network_path)
    record = {
        "network": network._replace(checkpoint=None)._asdict(),
        "sparsity": network.sparsity,
        "checkpoints": list(entries),
        "epochs": history.rows,
        "seconds": round(history.seconds, 3),
        "device": str(device),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "provenance": dict(facts),
    }
    if masks is not None:
        record["achieved_sparsity"] = achieved_sparsity(masks)["total"]
        record["collapsed_layers"] = collapsed_layers(masks)
    write_json(path, record)
