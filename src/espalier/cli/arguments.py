"""Arguments that several commands share, and what they name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from espalier.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from espalier.data.prepared import PreparedDataset


def names(text: str) -> list[str]:
    """Return the names of a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def shape(text: str) -> tuple[int, ...]:
    """Return the numbers of a shape such as 3x32x32."""
    try:
        found = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        found = ()
    if len(found) != 3 or min(found) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no image shape; write channels x height x width, for example 3x32x32"
        )
    return found


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --dataset and where it comes from."""
    parser.add_argument("--dataset", required=True, help="name, for example digits or cifar10")
    parser.add_argument("--source", help="of the data set: folder or npz, with --path")
    parser.add_argument("--path", help="folder or prepared NPZ of the data set")
    parser.add_argument("--mirror", action="append", default=[], help="folder or URL; repeatable")


def dataset_from(options: argparse.Namespace, seed: int = 0) -> PreparedDataset:
    """Return the data set that the options name."""
    from espalier.data.prepare import all_mirrors, prepare

    mirrors = all_mirrors(options.mirror)
    return prepare(options.dataset, options.source, options.path, mirrors, seed=seed)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint, the architecture that it belongs to, and masks."""
    parser.add_argument("checkpoint", help="safetensors file of the network's state dict")
    parser.add_argument("--model", required=True, help="name, or file.py:function of your own")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the hidden units")
    parser.add_argument(
        "--masks", help="NPZ of masks; by default the weights that are not zero are kept"
    )


def add_shape_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what of a data set a network needs to be built."""
    parser.add_argument("--classes", type=int, required=True, help="number of classes")
    parser.add_argument(
        "--input-shape", type=shape, required=True, help="of one image, for example 3x32x32"
    )


def network_from(options: argparse.Namespace) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the network and the masks that the options name."""
    from espalier.models import build
    from espalier.training.checkpoints import read_checkpoint

    if options.classes < 1:
        raise ConfigurationError(f"--classes is {options.classes}; take at least 1")
    model = build(options.model, options.classes, options.input_shape, options.width)
    read_checkpoint(options.checkpoint, model)
    return model, masks_from(options, model)


def masks_from(options: argparse.Namespace, model: nn.Module) -> dict[str, Tensor]:
    """Return the masks of --masks, or those of the weights that are not zero."""
    from espalier.pruning.contract import prunable_parameters
    from espalier.pruning.masks import read_masks, removed_entries

    if not options.masks:
        return {name: weight != 0 for name, weight in prunable_parameters(model).items()}
    masks = read_masks(options.masks)[0]
    removed_entries(model, masks)  # names and shapes that are not the model's are an error
    return masks
