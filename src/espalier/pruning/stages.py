"""The workflow's stages that make masks of a network as it stands: before and after training."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espalier.data.inputs import Normalisation
from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.data.splits import split_dataset
from espalier.devices import prepare_device
from espalier.files import FilePath
from espalier.jobs import job_threads
from espalier.models.fitting import build_network
from espalier.provenance import provenance
from espalier.pruning.batches import ScoringBatches
from espalier.pruning.contract import prune
from espalier.pruning.masks import write_masks
from espalier.pruning.report import collapsed_layers
from espalier.training.checkpoints import load_tensors
from espalier.training.state import read_training_state

Options = Mapping[str, Any]


def prune_at_initialisation(
    dataset: FilePath,
    masks: Sequence[FilePath],
    network: Options,
    recipe: Options,
    pruning: Options,
    sparsities: Sequence[float],
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Prune the untrained network of one seed to every sparsity and write its masks.

    The weights are those that the dense network of the same seed starts from.

    Args:
        dataset: prepared data set.
        masks: NPZ files to write, one per sparsity.
        network: model options.
        recipe: training options, for the normalisation of the images.
        pruning: "algorithm", "batch_size", "exclude" and "options" of the configuration.
        sparsities: shares to remove.
        splits: which images train: "text", "full" or "published".
        seed: root of every draw.
        code: digest of the code, for the records.
        device: "auto", "cpu" or "cuda".
    """
    images = read_dataset(dataset)
    where = prepare_device(device, job_threads())
    model = build_network(network, images, seed).to(where)
    batches = scoring_batches(images, recipe, pruning, splits, seed, where)
    found = [_pruned(model, batches, pruning, sparsity, seed) for sparsity in sparsities]
    _write_all(masks, found, sparsities, pruning, seed, code)


def prune_networks(
    dataset: FilePath,
    states: Sequence[FilePath],
    masks: Sequence[FilePath],
    network: Options,
    recipe: Options,
    pruning: Options,
    sparsities: Sequence[float],
    splits: str,
    seed: int,
    code: str,
) -> None:
    """Prune the trained networks of one seed and write their masks.

    Args:
        dataset: prepared data set.
        states: training states at the pruning epoch, one per sparsity.
        masks, network, recipe, pruning, sparsities, splits, seed, code: as in
            `prune_at_initialisation`.
    """
    images = read_dataset(dataset)
    where = prepare_device("cpu", job_threads())
    batches = scoring_batches(images, recipe, pruning, splits, seed, where)
    found = []
    for path, sparsity in zip(states, sparsities, strict=True):
        model = build_network(network, images)
        load_tensors(model, read_training_state(path).model_tensors(), str(path))
        found.append(_pruned(model, batches, pruning, sparsity, seed))
    _write_all(masks, found, sparsities, pruning, seed, code)


def scoring_batches(
    images: PreparedDataset,
    recipe: Options,
    pruning: Options,
    splits: str,
    seed: int,
    device: torch.device,
) -> ScoringBatches:
    """Return the training images of a split in batches, normalised as the recipe says."""
    pixels, labels = split_dataset(images, splits, seed).train
    normalisation = Normalisation.named(recipe["normalisation"], pixels)
    return ScoringBatches(pixels, labels, normalisation, pruning["batch_size"], seed, device)


def _pruned(
    model: nn.Module,
    batches: ScoringBatches,
    pruning: Options,
    sparsity: float,
    seed: int,
) -> dict[str, Tensor]:
    started = time.monotonic()
    masks = prune(
        pruning["algorithm"],
        model,
        batches.rewound(),
        sparsity,
        seed,
        exclude=pruning["exclude"],
        **pruning["options"],
    )
    collapsed = collapsed_layers(masks)
    print(
        f"sparsity {sparsity:g}: {sum(int(mask.sum()) for mask in masks.values())} weights kept, "
        f"{'no layer' if not collapsed else ', '.join(collapsed)} without any, "
        f"{time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )
    return masks


def _write_all(
    paths: Sequence[FilePath],
    found: Sequence[Mapping[str, Tensor]],
    sparsities: Sequence[float],
    pruning: Options,
    seed: int,
    code: str,
) -> None:
    facts = {"provenance": provenance(code, pruning, seed)}
    for path, sparsity, masks in zip(paths, sparsities, found, strict=True):
        write_masks(path, masks, sparsity, facts)
