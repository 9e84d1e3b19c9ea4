"""The workflow's stages that hold weights: dense, regularised, pruned and fine-tuned networks.

Each function does the work of one job. A job trains several networks one after the other; what is
finished is kept in a hidden folder beside the job's outputs until all are, so that a killed job
loses at most the epochs since its last saved state, and its outputs appear together.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espalier.data.prepared import read_dataset
from espalier.data.splits import SplitImages, split_dataset
from espalier.devices import prepare_device
from espalier.files import atomic_path, write_json
from espalier.jobs import job_threads
from espalier.models.fitting import build_network
from espalier.networks import network_of_path
from espalier.provenance import digest, provenance
from espalier.pruning.contract import prune
from espalier.pruning.group_hoyer import GroupHoyerSquare
from espalier.pruning.masks import read_masks, write_masks
from espalier.training.checkpoints import load_tensors, read_checkpoint
from espalier.training.loop import History, evaluate, train
from espalier.training.recipe import Recipe, checkpoint_epochs, pruning_epoch
from espalier.training.state import read_training_state

FilePath = str | os.PathLike[str]
Options = Mapping[str, Any]


def train_dense(
    dataset: FilePath,
    checkpoints: Sequence[FilePath],
    metrics: FilePath,
    network: Options,
    recipe: Options,
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Train a dense network and write its checkpoints and their accuracies.

    Args:
        dataset: prepared data set.
        checkpoints: paths of the checkpoints, from the first to the converged network.
        metrics: JSON to write.
        network: model options.
        recipe: training options of the configuration.
        splits: "text" or "published".
        seed: root of every draw.
        code: digest of the code, for the records.
        device: "auto", "cpu" or "cuda".
    """
    images = read_dataset(dataset)
    parts = split_dataset(images, splits, seed)
    how, first = _recipe(recipe)
    epochs = checkpoint_epochs(how.epochs, len(checkpoints), first)
    facts = provenance(code, {"network": network, "recipe": recipe, "splits": splits}, seed)
    where = prepare_device(device, job_threads())
    model = build_network(network, images, seed)
    history = train(
        model,
        *parts.train,
        how,
        seed,
        validation=parts.validation,
        checkpoint_paths=dict(zip(checkpoints, epochs, strict=True)),
        metadata=_strings({**facts, "model": network["architecture"]}),
        state_directory=_beside(metrics),
        device=where,
    )
    entries = []
    for number, (path, epoch) in enumerate(zip(checkpoints, epochs, strict=True)):
        read_checkpoint(path, model)
        entries.append(_accuracies(model, parts, where, number, epoch))
    _write_metrics(metrics, checkpoints[-1], entries, history, where, facts)


def train_regularised(
    dataset: FilePath,
    states: Sequence[FilePath],
    network: Options,
    recipe: Options,
    strengths: Sequence[float],
    epochs: int,
    prune_at: float,
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Train with the group-Hoyer-square regulariser up to the pruning epoch.

    Networks of one strength are one training run, whose state is written once per sparsity.

    Args:
        dataset: prepared data set.
        states: training states to write, one per sparsity.
        network, recipe, splits, seed, code, device: as in `train_dense`.
        strengths: the regulariser's strength for each state.
        epochs: epochs in all, over which the schedule runs.
        prune_at: share of the dense epochs after which to stop.

    Source: Petkov (2021), section 4.4; DeepHoyer (Yang et al. 2020).
    """
    images = read_dataset(dataset)
    parts = split_dataset(images, splits, seed)
    how, _ = _recipe({**recipe, "epochs": epochs})
    stop = pruning_epoch(recipe["epochs"], prune_at)
    where = prepare_device(device, job_threads())
    kept = _Kept(
        _beside(states[0]), [code, network, recipe, epochs, stop, splits, seed, _content(dataset)]
    )
    files = {}
    for strength in dict.fromkeys(strengths):
        name = f"strength{strength:g}"
        files[strength] = path = kept.path(f"{name}.safetensors")
        if path.exists():
            print(f"strength {strength:g}: done before", file=sys.stderr)
            continue
        print(f"strength {strength:g}", file=sys.stderr)
        train(
            build_network(network, images, seed),
            *parts.train,
            how,
            seed,
            validation=parts.validation,
            regulariser=GroupHoyerSquare(strength),
            stop_epoch=stop,
            final_state_path=path,
            state_directory=kept.folder / name,
            device=where,
        )
    for path, strength in zip(states, strengths, strict=True):
        _copy(files[strength], path)
    kept.clear()


def prune_networks(
    dataset: FilePath,
    states: Sequence[FilePath],
    masks: Sequence[FilePath],
    pruner: str,
    network: Options,
    options: Options,
    sparsities: Sequence[float],
    seed: int,
    code: str,
) -> None:
    """Prune the regularised networks of one seed and write their masks.

    Args:
        dataset: prepared data set, for the shape of the network.
        states: training states, one per sparsity.
        masks: NPZ files to write, one per sparsity.
        pruner: name of the algorithm.
        network: model options.
        options: options of the algorithm.
        sparsities: shares to remove.
        seed: root of the algorithm's draws.
        code: digest of the code, for the records.
    """
    images = read_dataset(dataset)
    results = []
    for path, sparsity in zip(states, sparsities, strict=True):
        model = build_network(network, images)
        load_tensors(model, read_training_state(path).model_tensors(), str(path))
        results.append(prune(pruner, model, (), sparsity, seed, **options))
    for path, sparsity, mask in zip(masks, sparsities, results, strict=True):
        facts = provenance(code, {"pruner": pruner, "options": options}, seed)
        write_masks(path, mask, sparsity, {"provenance": facts})


def finetune_pruned(
    dataset: FilePath,
    states: Sequence[FilePath],
    masks: Sequence[FilePath],
    checkpoints: Sequence[FilePath],
    metrics: Sequence[FilePath],
    network: Options,
    recipe: Options,
    epochs: int,
    last_checkpoint: int,
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Fine-tune the pruned networks of one seed, their removed weights held at zero.

    Args:
        dataset: prepared data set.
        states: training states at the pruning epoch, one per sparsity.
        masks: masks, in the same order.
        checkpoints: checkpoints to write.
        metrics: JSON files to write.
        epochs: epochs in all, those before pruning included.
        last_checkpoint: number of the converged dense network's checkpoint, which these are
            listed with.
        network, recipe, splits, seed, code, device: as in `train_dense`.
    """
    images = read_dataset(dataset)
    parts = split_dataset(images, splits, seed)
    how, _ = _recipe({**recipe, "epochs": epochs})
    where = prepare_device(device, job_threads())
    facts = provenance(
        code, {"network": network, "recipe": recipe, "epochs": epochs, "splits": splits}, seed
    )
    kept = _Kept(_beside(checkpoints[0]), [facts, _content(dataset)])
    model = build_network(network, images)
    finished = []
    for start_path, mask_path in zip(states, masks, strict=True):
        name = digest([_content(start_path), _content(mask_path)])
        path, record = kept.path(f"{name}.safetensors"), kept.path(f"{name}.json")
        finished.append((path, record))
        sparsity = network_of_path(mask_path).sparsity
        if record.exists():
            print(f"sparsity {sparsity:g}: done before", file=sys.stderr)
            continue
        print(f"sparsity {sparsity:g}", file=sys.stderr)
        start = read_training_state(start_path)
        load_tensors(model, start.model_tensors(), str(start_path))
        history = train(
            model,
            *parts.train,
            how,
            seed,
            validation=parts.validation,
            masks=read_masks(mask_path)[0],
            start=start,
            checkpoint_paths={path: epochs},
            metadata=_strings({**facts, "model": network["architecture"]}),
            state_directory=kept.folder / name,
            device=where,
        )
        entry = _accuracies(model, parts, where, last_checkpoint, epochs)
        _write_metrics(record, mask_path, [entry], history, where, facts)
    for (path, record), checkpoint, metric in zip(finished, checkpoints, metrics, strict=True):
        _copy(path, checkpoint)
        _copy(record, metric)
    kept.clear()


class _Kept:
    """Finished parts of a job, until the whole job is done; other settings have other names."""

    def __init__(self, folder: FilePath, identity: Any) -> None:
        self.folder = Path(folder)
        self._prefix = digest(identity)

    def path(self, name: str) -> Path:
        return self.folder / f"{self._prefix}.{name}"

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _beside(output: FilePath) -> Path:
    """Return the hidden folder of a job's resumable state, beside its first output."""
    return Path(output).with_name(f".{Path(output).stem}.state")


def _copy(source: Path, target: FilePath) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _content(path: FilePath) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _recipe(options: Options) -> tuple[Recipe, str]:
    """Return the recipe of a configuration and what checkpoint 0 is."""
    values = dict(options)
    first = values.pop("first_checkpoint")
    return Recipe(**values), first


def _strings(record: Options) -> dict[str, str]:
    return {key: str(value) for key, value in record.items()}


def _accuracies(
    model: nn.Module, parts: SplitImages, device: torch.device, checkpoint: int, epoch: int
) -> dict[str, Any]:
    model.to(device)
    return {
        "checkpoint": checkpoint,
        "epoch": epoch,
        "validation_accuracy": evaluate(model, *parts.validation, device=device),
        "test_accuracy": evaluate(model, *parts.test, device=device),
    }


def _write_metrics(
    path: FilePath,
    network_path: FilePath,
    entries: Sequence[Options],
    history: History,
    device: torch.device,
    facts: Options,
) -> None:
    network = network_of_path(network_path)
    write_json(
        path,
        {
            "network": network._replace(checkpoint=None)._asdict(),
            "sparsity": network.sparsity,
            "checkpoints": list(entries),
            "epochs": history.rows,
            "seconds": round(history.seconds, 3),
            "device": str(device),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "provenance": dict(facts),
        },
    )
