"""What the detectors that need no graph read: output weights, confusion counts, class means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import DataError
from espalier.files import read_npz, write_npz
from espalier.graphs.activations import evaluating, is_weight_layer
from espalier.graphs.correlation import spearman

if TYPE_CHECKING:
    import torch

_ARRAYS = ("output_weights", "confusion", "class_means", "output_correlation")


def readout(
    model: torch.nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    num_classes: int,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """Read the last Linear layer of a network and what reaches it, class by class.

    Args:
        model: a network that ends in a Linear with one unit per class; it runs in evaluation
            mode, and its modes and device are restored.
        batches: (inputs, labels) of the test images; labels are 0 .. num_classes - 1.
        num_classes: number of classes C.
        device: where the network runs.

    Returns:
        output_weights: (C, D) float64, rows of the last Linear.
        confusion: (C, C) int64, images counted by true class (row) and predicted class (column).
        class_means: (C, D) float64, mean input of the last Linear over the images of each class.
        output_correlation: (C, C) float64, Spearman's rho of the logits over the images.

    Raises:
        DataError: the last layer is not a Linear with C units, a label is outside the classes, or
            a class has no image.

    Source: class means as in Wan et al. (2021), "NBDT: Neural-Backed Decision Trees" (induced
    hierarchies read the rows of the output weights).
    """
    import torch

    # The module and the input of the layer that ran last; the end of the pass leaves the output.
    last: list[tuple[torch.nn.Module, torch.Tensor]] = []

    def remember(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        last[:] = [(module, inputs[0])]

    layers = {module: name for name, module in model.named_modules() if is_weight_layer(module)}
    handles = [module.register_forward_hook(remember) for module in layers]
    confusion = np.zeros((num_classes, num_classes), np.int64)
    sums: torch.Tensor | None = None
    all_logits: list[np.ndarray] = []
    try:
        with evaluating(model, device):
            for inputs, labels in batches:
                logits = model(inputs.to(device))
                if not last:
                    raise DataError("the network runs no Conv or Linear module")
                layer, features = last[0]
                _check_output(layer, layers[layer], logits, features, num_classes)
                all_logits.append(logits.cpu().numpy())
                labels = labels.to(device).long()
                if len(labels) and not (0 <= int(labels.min()) <= int(labels.max()) < num_classes):
                    raise DataError(
                        f"labels run from {int(labels.min())} to {int(labels.max())}, but there "
                        f"are {num_classes} classes (0 to {num_classes - 1})"
                    )
                cells = labels * num_classes + logits.argmax(1)
                counts = torch.bincount(cells, minlength=num_classes**2)
                confusion += counts.cpu().numpy().reshape(num_classes, num_classes)
                one_hot = torch.nn.functional.one_hot(labels, num_classes).double()
                batch_sums = one_hot.T @ features.double()
                sums = batch_sums if sums is None else sums + batch_sums
            if sums is None:
                raise DataError("there are no batches to read the network with")
            weight: torch.Tensor = last[0][0].weight  # type: ignore[assignment]
            output_weights = weight.detach().double().cpu().numpy().copy()
    finally:
        for handle in handles:
            handle.remove()
    images = confusion.sum(axis=1)
    if not images.all():
        empty = np.flatnonzero(images == 0).tolist()
        raise DataError(
            f"the classes {empty} have no image, so they have no mean; "
            "read the network with images of every class"
        )
    return {
        "output_weights": output_weights,
        "confusion": confusion,
        "class_means": sums.cpu().numpy() / images[:, None],
        "output_correlation": spearman(np.concatenate(all_logits)),
    }


def _check_output(
    layer: torch.nn.Module,
    name: str,
    logits: torch.Tensor,
    features: torch.Tensor,
    num_classes: int,
) -> None:
    if "Linear" not in type(layer).__name__:
        raise DataError(
            f"the last layer to run, {name!r}, is a {type(layer).__name__}; the network must end "
            "in a Linear with one unit per class"
        )
    if logits.ndim != 2 or logits.shape[1] != num_classes or features.ndim != 2:
        raise DataError(
            f"layer {name!r} takes shape {tuple(features.shape)} and the network gives "
            f"{tuple(logits.shape)}; expected (batch, features) and (batch, {num_classes})"
        )


def write_readout(
    path: str | os.PathLike[str],
    values: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a readout as NPZ: its arrays and class_names (unicode)."""
    write_npz(
        path,
        {
            **{name: values[name] for name in _ARRAYS},
            "class_names": np.asarray(tuple(class_names), dtype=np.str_),
        },
        metadata,
    )


def read_readout(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a readout: the arrays of `readout`, and class_names.

    Raises:
        DataError: the file is missing or damaged, lacks an array, or its shapes do not fit.
    """
    arrays, _ = read_npz(path)
    missing = [name for name in (*_ARRAYS, "class_names") if name not in arrays]
    if missing:
        raise DataError(
            f"{path} is not a readout: it lacks {', '.join(missing)} "
            f"(it holds {', '.join(sorted(arrays)) or 'no arrays'})"
        )
    classes = len(arrays["class_names"])
    shapes = {name: arrays[name].shape for name in _ARRAYS}
    width = shapes["output_weights"][1] if len(shapes["output_weights"]) == 2 else 0
    for name, expected in (
        ("output_weights", (classes, width)),
        ("confusion", (classes, classes)),
        ("class_means", (classes, width)),
        ("output_correlation", (classes, classes)),
    ):
        if shapes[name] != expected:
            raise DataError(
                f"{path}: {name} has shape {shapes[name]}, but {classes} class names and "
                f"{width} features expect {expected}"
            )
    return arrays
