"""The workflow's stages that train: dense, regularised, pruned, dynamic and fine-tuned networks.

Each function does the work of one job. A job trains several networks one after the other; what is
finished is kept in a hidden folder beside the job's outputs until all are, so that a killed job
loses at most the epochs since its last saved state, and its outputs appear together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from espalier.data.prepared import PreparedDataset, read_dataset
from espalier.data.splits import SplitImages, split_dataset
from espalier.devices import prepare_device
from espalier.files import FilePath
from espalier.jobs import job_threads
from espalier.models.fitting import build_network
from espalier.networks import network_of_path
from espalier.provenance import digest, provenance
from espalier.pruning.contract import dynamics, prune
from espalier.pruning.group_hoyer import GroupHoyerSquare
from espalier.pruning.masks import read_masks, write_masks
from espalier.pruning.registry import repeats_training
from espalier.pruning.stages import scoring_batches
from espalier.training.checkpoints import load_tensors, read_checkpoint
from espalier.training.keeping import (
    Kept,
    accuracies,
    deliver,
    file_digest,
    state_folder,
    write_metrics,
)
from espalier.training.loop import History, train
from espalier.training.recipe import Recipe, checkpoint_epochs, pruning_epoch
from espalier.training.sparse import horizon
from espalier.training.state import read_training_state
from espalier.training.tickets import train_tickets

Options = Mapping[str, Any]


class _Job(NamedTuple):
    """What every network of a job shares."""

    images: PreparedDataset
    parts: SplitImages
    recipe: Recipe
    seed: int
    device: torch.device
    facts: dict[str, Any]

    @classmethod
    def prepare(
        cls, dataset: FilePath, recipe: Options, splits: str, seed: int, device: str, facts: Options
    ) -> _Job:
        """Read the data and choose the device; `recipe` is that of the configuration."""
        values = {key: value for key, value in recipe.items() if key != "first_checkpoint"}
        images = read_dataset(dataset)
        parts = split_dataset(images, splits, seed)
        where = prepare_device(device, job_threads())
        return cls(images, parts, Recipe(**values), seed, where, dict(facts))

    def train(self, model: nn.Module, **options: Any) -> History:
        """Train on the training images."""
        held_out = self.parts.validation
        return train(
            model,
            *self.parts.train,
            self.recipe,
            self.seed,
            validation=held_out if len(held_out[1]) else None,
            device=self.device,
            **options,
        )

    def accuracies(
        self, model: nn.Module, history: History, checkpoint: int, epoch: int
    ) -> dict[str, Any]:
        """Return the accuracies of a trained model."""
        return accuracies(model, self.parts, self.device, history.normalisation, checkpoint, epoch)


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
        splits: "text", "full" or "published".
        seed: root of every draw.
        code: digest of the code, for the records.
        device: "auto", "cpu" or "cuda".
    """
    facts = provenance(code, {"network": network, "recipe": recipe, "splits": splits}, seed)
    job = _Job.prepare(dataset, recipe, splits, seed, device, facts)
    epochs = checkpoint_epochs(job.recipe.epochs, len(checkpoints), recipe["first_checkpoint"])
    model = build_network(network, job.images, seed)
    history = job.train(
        model,
        checkpoint_paths=dict(zip(checkpoints, epochs, strict=True)),
        metadata=_strings(facts, network),
        state_directory=state_folder(metrics),
    )
    entries = []
    for number, (path, epoch) in enumerate(zip(checkpoints, epochs, strict=True)):
        read_checkpoint(path, model)
        entries.append(job.accuracies(model, history, number, epoch))
    write_metrics(metrics, checkpoints[-1], entries, history, job.device, facts)


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
        strengths: the regulariser's strength for each state; 0 trains without.
        epochs: epochs in all, over which the schedule runs.
        prune_at: share of the dense epochs after which to stop.

    Source: Petkov (2021), section 4.4; DeepHoyer (Yang et al. 2020).
    """
    stop = pruning_epoch(recipe["epochs"], prune_at)
    job = _Job.prepare(dataset, {**recipe, "epochs": epochs}, splits, seed, device, {})
    kept = Kept(
        state_folder(states[0]),
        [code, network, recipe, epochs, stop, splits, seed, file_digest(dataset)],
    )
    files = {}
    for strength in dict.fromkeys(strengths):
        name = f"strength{strength:g}"
        files[strength] = path = kept.path(f"{name}.safetensors")
        if path.exists():
            print(f"strength {strength:g}: done before", file=sys.stderr)
            continue
        print(f"strength {strength:g}", file=sys.stderr)
        job.train(
            build_network(network, job.images, seed),
            regulariser=GroupHoyerSquare(strength) if strength else None,
            stop_epoch=stop,
            final_state_path=path,
            state_directory=kept.folder / name,
        )
    for path, strength in zip(states, strengths, strict=True):
        deliver(files[strength], path)
    kept.clear()


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
    facts = provenance(
        code, {"network": network, "recipe": recipe, "epochs": epochs, "splits": splits}, seed
    )
    job = _Job.prepare(dataset, {**recipe, "epochs": epochs}, splits, seed, device, facts)
    model = build_network(network, job.images)

    def finetune(position: int, **options: Any) -> History:
        start = read_training_state(states[position])
        load_tensors(model, start.model_tensors(), str(states[position]))
        return job.train(model, masks=read_masks(masks[position])[0], start=start, **options)

    names = [
        digest([file_digest(start), file_digest(mask)])
        for start, mask in zip(states, masks, strict=True)
    ]
    kept = Kept(state_folder(checkpoints[0]), [facts, file_digest(dataset)])
    _train_each(job, kept, model, network, names, finetune, checkpoints, metrics, last_checkpoint)
    kept.clear()


def train_pruned(
    dataset: FilePath,
    masks: Sequence[FilePath],
    checkpoints: Sequence[FilePath],
    metrics: Sequence[FilePath],
    network: Options,
    recipe: Options,
    last_checkpoint: int,
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Train the networks of one seed that were pruned before training.

    Args:
        dataset: prepared data set.
        masks: masks of the untrained network of this seed, one per sparsity.
        checkpoints: checkpoints to write.
        metrics: JSON files to write.
        last_checkpoint: as in `finetune_pruned`.
        network, recipe, splits, seed, code, device: as in `train_dense`.
    """
    facts = provenance(code, {"network": network, "recipe": recipe, "splits": splits}, seed)
    job = _Job.prepare(dataset, recipe, splits, seed, device, facts)
    model = build_network(network, job.images, seed)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def train_masked(position: int, **options: Any) -> History:
        load_tensors(model, initial, "the initial weights")
        return job.train(model, masks=read_masks(masks[position])[0], **options)

    names = [file_digest(mask) for mask in masks]
    kept = Kept(state_folder(checkpoints[0]), [facts, file_digest(dataset)])
    _train_each(
        job, kept, model, network, names, train_masked, checkpoints, metrics, last_checkpoint
    )
    kept.clear()


def train_dynamic(
    dataset: FilePath,
    masks: Sequence[FilePath],
    checkpoints: Sequence[FilePath],
    metrics: Sequence[FilePath],
    network: Options,
    recipe: Options,
    pruning: Options,
    sparsities: Sequence[float],
    last_checkpoint: int,
    splits: str,
    seed: int,
    code: str,
    device: str = "auto",
) -> None:
    """Train the networks of one seed with a pruner that acts while they train.

    With "mask_history" the masks of every epoch are written beside each mask, as
    seed{seed}.history.npz.

    Args:
        dataset: prepared data set.
        masks: NPZ files to write: the masks at the end of training, one per sparsity.
        checkpoints: checkpoints to write.
        metrics: JSON files to write.
        pruning: "algorithm", "batch_size", "exclude", "options" and "mask_history" of the
            configuration.
        sparsities: shares to remove.
        last_checkpoint: as in `finetune_pruned`.
        network, recipe, splits, seed, code, device: as in `train_dense`.
    """
    configuration = {"network": network, "recipe": recipe, "splits": splits, "pruning": pruning}
    facts = provenance(code, configuration, seed)
    job = _Job.prepare(dataset, recipe, splits, seed, device, facts)
    model = build_network(network, job.images, seed)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = Kept(state_folder(checkpoints[0]), [facts, file_digest(dataset)])
    algorithm, options = pruning["algorithm"], pruning["options"]
    excluded = pruning["exclude"]
    names = [f"sparsity{sparsity:g}" for sparsity in sparsities]
    found = [kept.path(f"{name}.npz") for name in names]

    if repeats_training(algorithm):
        train_one = train_tickets(
            algorithm, job.train, model, initial, sparsities, options, kept, excluded
        )
    else:
        batches = scoring_batches(job.images, recipe, pruning, splits, seed, job.device)
        steps = horizon(job.recipe, len(job.parts.train[1]))

        def train_one(position: int, **outputs: Any) -> History:
            load_tensors(model, initial, "the initial weights")
            sparsity = sparsities[position]
            first = prune(
                algorithm, model, batches.rewound(), sparsity, seed, exclude=excluded, **options
            )
            changing = dynamics(algorithm, first, sparsity, steps, seed, **options)
            history = Path(masks[position]).with_suffix(".history.npz")
            return job.train(
                model,
                dynamics=changing,
                mask_history_path=history if pruning["mask_history"] else None,
                **outputs,
            )

    def train_and_keep(position: int, **outputs: Any) -> History:
        history = train_one(position, **outputs)
        write_masks(found[position], history.masks, sparsities[position], {"provenance": facts})
        return history

    _train_each(
        job, kept, model, network, names, train_and_keep, checkpoints, metrics, last_checkpoint
    )
    for path, target in zip(found, masks, strict=True):
        deliver(path, target)
    kept.clear()


def _train_each(
    job: _Job,
    kept: Kept,
    model: nn.Module,
    network: Options,
    names: Sequence[str],
    train_one: Callable[..., History],
    checkpoints: Sequence[FilePath],
    metrics: Sequence[FilePath],
    last_checkpoint: int,
) -> None:
    """Train one network after the other into `model`, then deliver checkpoints and metrics.

    Args:
        kept: where finished networks wait.
        names: one per network, for what is kept.
        train_one: trains the network of a position; takes the outputs of `train`.
    """
    finished = []
    for position, name in enumerate(names):
        path, record = kept.path(f"{name}.safetensors"), kept.path(f"{name}.json")
        finished.append((path, record))
        sparsity = network_of_path(checkpoints[position]).sparsity
        if record.exists():
            print(f"sparsity {sparsity:g}: done before", file=sys.stderr)
            continue
        print(f"sparsity {sparsity:g}", file=sys.stderr)
        history = train_one(
            position,
            checkpoint_paths={path: job.recipe.epochs},
            metadata=_strings(job.facts, network),
            state_directory=kept.folder / name,
        )
        read_checkpoint(path, model)
        entry = job.accuracies(model, history, last_checkpoint, job.recipe.epochs)
        write_metrics(
            record, checkpoints[position], [entry], history, job.device, job.facts, history.masks
        )
    for (path, record), checkpoint, metric in zip(finished, checkpoints, metrics, strict=True):
        deliver(path, checkpoint)
        deliver(record, metric)


def _strings(facts: Options, network: Options) -> dict[str, str]:
    """Return the metadata of a checkpoint."""
    return {key: str(value) for key, value in {**facts, "model": network["architecture"]}.items()}
