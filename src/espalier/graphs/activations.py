"""One value per unit and sample: the activations that a co-activation graph is built from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import ConfigurationError, DataError, nearest_hint, unknown_name
from espalier.files import atomic_path
from espalier.models.evaluation_mode import in_evaluation_mode
from espalier.seeds import numpy_generator

if TYPE_CHECKING:
    import torch

TAPS = ("linear_out", "post_bn", "post_relu")
REDUCTIONS = ("max", "mean")
OUTPUTS = ("logit", "softmax")

_STAGED_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of the units that are not pruned, in forward order.

    Attributes:
        values: (samples, units) float32, unit-major (Fortran order): the samples of one unit are
            adjacent in memory, which is what ranking and shuffling read.
        layer: (units,) int64, 0 for the first layer in forward order.
        neuron: (units,) int64, index of the unit in its layer, pruned units counted.
        label: (units,) int64, class index of an output unit, -1 for a hidden unit.
        layer_names: one module name per layer.
    """

    values: np.ndarray
    layer: np.ndarray
    neuron: np.ndarray
    label: np.ndarray
    layer_names: tuple[str, ...]


def collect(
    model: torch.nn.Module,
    batches: Iterable[Any],
    tap: str = "linear_out",
    reduce: str = "mean",
    output: str = "logit",
    masks: Mapping[str, torch.Tensor | np.ndarray] | None = None,
    device: str | torch.device = "cpu",
    memmap: str | os.PathLike[str] | None = None,
    samples: int | None = None,
) -> Activations:
    """Run a network over data and keep one value per unit and sample.

    Layers are the modules whose class name contains "Conv" or "Linear" and that have a weight
    matrix, in the order in which the first batch runs them. A convolution has one unit per output
    channel, reduced over the positions; the last layer must be a Linear, and its units are the
    outputs, one per class. The model runs in evaluation mode; modes and device are restored.

    Args:
        model: a network with logits as output.
        batches: normalised float tensors, samples first, or tuples that start with one.
        tap: where a hidden layer is read. "linear_out": the layer's own output. "post_bn": after
            the batch norm module that runs before the next layer, or the layer's own output where
            there is none. "post_relu": after the first ReLU module that runs before the next layer.
            Outputs are always read at the layer itself.
        reduce: "mean" or "max" over the positions of a channel.
        output: "logit", or "softmax" over the output units.
        masks: kept weights by parameter name (True = kept). A hidden unit that keeps no weight is
            left out; output units never are.
        device: where the network runs.
        memmap: a file (.npy) to hold the values; they are then a read-only memory map, and the
            memory used does not grow with the samples. Needs the number of samples.
        samples: number of samples, for `memmap`; by default the length of `batches.dataset`.

    Returns:
        The activations of the units that are not pruned.

    Raises:
        ConfigurationError: unknown option, or `memmap` without a number of samples.
        DataError: no batches; no layer that ends the network in a Linear; a layer that runs twice;
            a hidden layer that no ReLU module follows ("post_relu"); a mask that does not fit; a
            layer that is pruned away whole.

    Source: Horta et al. (2021), "Extracting knowledge from Deep Neural Networks through graph
    analysis"; the defaults (pre-activation, spatial mean, logits) are those of the co-activation
    code that its authors passed on.
    """
    for kind, name, known in (
        ("tap", tap, TAPS),
        ("reduction", reduce, REDUCTIONS),
        ("output", output, OUTPUTS),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    if memmap is not None and samples is None:
        dataset = getattr(batches, "dataset", None)
        if dataset is None:
            raise ConfigurationError(
                "memmap needs the number of samples before the first batch; pass samples="
            )
        samples = len(dataset)

    with evaluating(model, device):
        blocks = _Blocks(model, batches, tap, reduce, output, masks, device)
        values = _in_memory(blocks) if memmap is None else _in_file(blocks, memmap, samples or 0)
    return Activations(values, *blocks.units(), blocks.layer_names)


def shuffled(values: np.ndarray, seed: int) -> np.ndarray:
    """Shuffle the samples of every unit independently: the null model of no co-activation.

    Args:
        values: (samples, units).
        seed: each unit draws from its own named stream of this seed.

    Returns:
        (samples, units), unit-major, with the same values in every column.
    """
    result = np.empty(values.shape, values.dtype, order="F")
    for unit in range(values.shape[1]):
        result[:, unit] = values[:, unit]
        numpy_generator(seed, "shuffled activations", unit).shuffle(result[:, unit])
    return result


@contextmanager
def evaluating(model: torch.nn.Module, device: str | torch.device = "cpu") -> Iterator[None]:
    """Put a model on a device in evaluation mode without gradients; restore modes and device."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    home = tensors[0].device if tensors else None
    try:
        model.to(device)
        with in_evaluation_mode(model), torch.no_grad():
            yield
    finally:
        if home is not None:
            model.to(home)


def is_weight_layer(module: torch.nn.Module) -> bool:
    """Whether a module is a layer of units: a Conv or Linear by its class name, with weights."""
    weight = getattr(module, "weight", None)
    name = type(module).__name__
    return ("Conv" in name or "Linear" in name) and getattr(weight, "ndim", 0) >= 2


def inputs_of(batch: Any) -> torch.Tensor:
    """The input tensor of a batch: the batch itself, or the first item of a tuple or list."""
    return batch[0] if isinstance(batch, tuple | list) else batch


class _Blocks:
    """Iterates over (units, samples) float32 arrays, one per batch."""

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Iterable[Any],
        tap: str,
        reduce: str,
        output: str,
        masks: Mapping[str, Any] | None,
        device: str | torch.device,
    ) -> None:
        self._model, self._batches, self._device = model, batches, device
        self._tap, self._reduce, self._output = tap, reduce, output
        self._masks = dict(masks or {})
        self._names = {module: name for name, module in model.named_modules()}
        self._kept: list[np.ndarray] = []
        self._trace: list[_Tapped] = []
        self.layer_names: tuple[str, ...] = ()
        for name, mask in self._masks.items():
            parameters = {
                **dict(model.named_parameters()),
                # torch.nn.utils.prune turns a weight into a plain attribute.
                **{f"{n}.weight": m.weight for m, n in self._names.items() if is_weight_layer(m)},
            }
            if name not in parameters:
                raise DataError(
                    f"the mask {name!r} names no parameter of the model."
                    f"{nearest_hint(name, parameters)}"
                )
            if tuple(mask.shape) != tuple(parameters[name].shape):
                raise DataError(
                    f"the mask {name!r} has shape {tuple(mask.shape)}, but the parameter has "
                    f"shape {tuple(parameters[name].shape)}"
                )

    def __iter__(self) -> Iterator[np.ndarray]:
        handles = self._watch()
        try:
            for batch in self._batches:
                self._trace = []
                self._model(inputs_of(batch).to(self._device))
                yield self._block()
        finally:
            for handle in handles:
                handle.remove()
        if not self.layer_names:
            raise DataError("there are no batches, so no activations")

    def units(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Layer, neuron and label of every unit that is kept."""
        neuron = np.concatenate(self._kept)
        layer = np.repeat(np.arange(len(self._kept)), [len(kept) for kept in self._kept])
        label = np.where(layer == len(self._kept) - 1, neuron, -1)
        return layer, neuron, label

    def _watch(self) -> list[Any]:
        handles = []
        for module in self._names:
            name = type(module).__name__
            leaf = next(module.children(), None) is None
            if is_weight_layer(module):
                handles.append(module.register_forward_hook(self._on_layer))
            elif leaf and "BatchNorm" in name:
                handles.append(module.register_forward_hook(self._on_batch_norm))
            elif leaf and "ReLU" in name:
                handles.append(module.register_forward_hook(self._on_relu))
        return handles

    def _on_layer(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        name = self._names[module]
        if any(tapped.name == name for tapped in self._trace):
            raise DataError(
                f"the layer {name!r} runs twice in one forward pass, so its units have no single "
                "value; give each use a layer of its own"
            )
        tapped = _Tapped(name, module)
        tapped.units = output.shape[1] if output.ndim > 1 else 0
        tapped.layer_output = self._reduced(tapped, output, name)
        self._trace.append(tapped)

    def _on_batch_norm(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if self._tap == "post_bn" and self._trace and self._trace[-1].batch_norm is None:
            tapped = self._trace[-1]
            tapped.batch_norm = self._reduced(tapped, output, self._names[module])

    def _on_relu(self, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if self._tap == "post_relu" and self._trace and self._trace[-1].relu is None:
            tapped = self._trace[-1]
            tapped.relu = self._reduced(tapped, output, self._names[module])

    def _reduced(self, tapped: _Tapped, output: torch.Tensor, source: str) -> torch.Tensor:
        """One value per sample and unit: (batch, units)."""
        convolution = "Conv" in type(tapped.module).__name__
        fits = output.ndim == 2 or (convolution and output.ndim > 2)
        if not fits or output.shape[1] != tapped.units:
            expected = "(batch, {0}, ...)" if convolution else "(batch, {0})"
            raise DataError(
                f"{source!r} gives shape {tuple(output.shape)} where the {tapped.units} units of "
                f"layer {tapped.name!r} need {expected.format(tapped.units)}"
            )
        if output.ndim == 2:
            # A copy, because a ReLU in place would change it.
            return output.float().clone()
        positions = output.float().flatten(2)
        return positions.mean(2) if self._reduce == "mean" else positions.amax(2)

    def _block(self) -> np.ndarray:
        import torch

        names = tuple(tapped.name for tapped in self._trace)
        if not self.layer_names:
            self._check_layers()
            self._kept = [self._kept_units(tapped) for tapped in self._trace[:-1]]
            self._kept.append(np.arange(self._trace[-1].units))
            self.layer_names = names
        elif names != self.layer_names:
            raise DataError(
                f"the network ran the layers {list(names)} on one batch and "
                f"{list(self.layer_names)} on the first; the layers must be the same for all data"
            )
        pieces = []
        for tapped, kept in zip(self._trace, self._kept, strict=True):
            piece = self._value(tapped)
            if len(kept) < tapped.units:
                piece = piece[:, torch.as_tensor(kept, device=piece.device)]
            pieces.append(piece)
        return torch.cat(pieces, 1).T.contiguous().cpu().numpy()

    def _value(self, tapped: _Tapped) -> torch.Tensor:
        if tapped is self._trace[-1]:
            logits = tapped.layer_output
            return logits.softmax(1) if self._output == "softmax" else logits
        if self._tap == "post_bn" and tapped.batch_norm is not None:
            return tapped.batch_norm
        if self._tap == "post_relu":
            if tapped.relu is None:
                raise DataError(
                    f"no ReLU module runs between layer {tapped.name!r} and the next one, so "
                    "there is no post_relu value (calls of torch.relu cannot be seen); use "
                    "torch.nn.ReLU modules, or the tap linear_out or post_bn"
                )
            return tapped.relu
        return tapped.layer_output

    def _check_layers(self) -> None:
        if not self._trace:
            raise DataError("the network runs no Conv or Linear module, so it has no units")
        last = self._trace[-1]
        if "Linear" not in type(last.module).__name__:
            raise DataError(
                f"the last layer to run, {last.name!r}, is a {type(last.module).__name__}; the "
                "network must end in a Linear with one unit per class"
            )

    def _kept_units(self, tapped: _Tapped) -> np.ndarray:
        mask = self._masks.get(f"{tapped.name}.weight" if tapped.name else "weight")
        if mask is None:
            return np.arange(tapped.units)
        kept = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask).astype(bool)
        if "Transpose" in type(tapped.module).__name__:
            # Weights are (in, out / groups, ...): bring the output channels to the front.
            groups = getattr(tapped.module, "groups", 1)
            kept = kept.reshape(groups, kept.shape[0] // groups, *kept.shape[1:])
            kept = kept.swapaxes(1, 2).reshape(tapped.units, -1)
        units = np.flatnonzero(kept.reshape(len(kept), -1).any(1))
        if not len(units):
            raise DataError(
                f"all {tapped.units} units of layer {tapped.name!r} are pruned, so nothing "
                "reaches the outputs; use a lower sparsity"
            )
        return units


class _Tapped:
    """What one layer gave in one forward pass."""

    def __init__(self, name: str, module: torch.nn.Module) -> None:
        self.name, self.module, self.units = name, module, 0
        self.layer_output: Any = None
        self.batch_norm: torch.Tensor | None = None
        self.relu: torch.Tensor | None = None


def _in_memory(blocks: Iterable[np.ndarray]) -> np.ndarray:
    staged = list(blocks)
    values = np.empty((len(staged[0]), sum(block.shape[1] for block in staged)), np.float32)
    staged.reverse()
    start = 0
    while staged:
        # Popped, so that the batches and the whole are never all in memory together.
        block = staged.pop()
        values[:, start : start + block.shape[1]] = block
        start += block.shape[1]
    return values.T


def _in_file(
    blocks: Iterable[np.ndarray], path: str | os.PathLike[str], samples: int
) -> np.ndarray:
    """Write the blocks to a .npy of shape (units, samples) and map it."""
    advice = "pass the right number as samples="
    with atomic_path(path) as temporary, open(temporary, "wb+") as handle:
        written = data_start = 0
        for rows in _joined(blocks, _STAGED_SAMPLES):
            if written == 0:
                header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), samples)}
                np.lib.format.write_array_header_1_0(handle, header)
                data_start = handle.tell()
            if written + rows.shape[1] > samples:
                raise DataError(
                    f"{path} has room for {samples} samples, but the batches hold more; {advice}"
                )
            for unit, row in enumerate(rows):
                handle.seek(data_start + 4 * (unit * samples + written))
                handle.write(row.astype("<f4", copy=False).tobytes())
            written += rows.shape[1]
        if written != samples:
            raise DataError(
                f"{path} has room for {samples} samples, but the batches hold {written}; {advice}"
            )
    return np.load(path, mmap_mode="r").T


def _joined(blocks: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Join blocks along the samples until each holds at least `samples`, for long writes."""
    staged: list[np.ndarray] = []
    for block in blocks:
        staged.append(block)
        if sum(rows.shape[1] for rows in staged) >= samples:
            yield np.concatenate(staged, axis=1)
            staged.clear()
    if staged:
        yield np.concatenate(staged, axis=1)
