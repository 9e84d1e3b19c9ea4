"""A faster training pass for chains of layers on the CPU; the modules stay as they are.

A training step of a small network on one core is bound by memory: batch norm, ReLU and max pool
each read and write whole activation maps, and their gradients do so twice. Here

- batch norm, ReLU and 2x2 max pool are one step that pools the raw convolution output first. With
  a positive scale, normalising and ReLU keep order, so the maximum stays the maximum and only the
  pooled quarter is normalised (with a negative scale the minimum is pooled);
- its gradient is computed a few images at a time, so that intermediate values stay in the cache;
- dropout draws 16 random bits per unit instead of one number of a scalar generator.

Values and gradients equal those of the modules up to rounding, dropout's choice of units aside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

_CHUNK_BYTES = 2**19
_RANDOM_BITS = 16


def training_forward(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that computes what `model(inputs)` computes in training mode.

    For an `nn.Sequential` on the CPU it is the faster pass, for everything else the model itself.
    Forward hooks of the fused layers do not run.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    if not isinstance(model, nn.Sequential) or not on_cpu:
        return model
    layers = list(model)
    steps: list[Callable[[Tensor], Tensor]] = []
    position = 0
    while position < len(layers):
        layer, *following = layers[position : position + 3]
        if _is_plain_norm(layer) and _is_relu_and_pool(following):
            steps.append(_NormReluPoolStep(layer))
            position += 3
            continue
        steps.append(_DropoutStep(layer.p) if isinstance(layer, nn.Dropout) else layer)
        position += 1

    def forward(inputs: Tensor) -> Tensor:
        for step in steps:
            inputs = step(inputs)
        return inputs

    return forward


def _is_plain_norm(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.BatchNorm2d)
        and layer.affine
        and layer.track_running_stats
        and layer.momentum is not None
    )


def _is_relu_and_pool(layers: list[nn.Module]) -> bool:
    if [type(layer) for layer in layers] != [nn.ReLU, nn.MaxPool2d]:
        return False
    pool: Any = layers[1]
    plain = (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)
    return plain and not pool.ceil_mode and not pool.return_indices


class _NormReluPoolStep:
    def __init__(self, norm: Any) -> None:
        self.norm = norm

    def __call__(self, inputs: Tensor) -> Tensor:
        norm = self.norm
        norm.num_batches_tracked.add_(1)
        mean, variance = torch.batch_norm_update_stats(
            inputs.detach(), norm.running_mean, norm.running_var, norm.momentum
        )
        inverse_deviation = torch.rsqrt(variance + norm.eps)
        return _NormReluPool.apply(inputs, norm.weight, norm.bias, mean, inverse_deviation)


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor
    ) -> Tensor:
        scale = weight * inverse
        shift = bias - mean * scale
        descending = weight < 0
        if bool(descending.any()):
            sign = _channels(torch.where(descending, -1.0, 1.0))
            pooled, indices = functional.max_pool2d(inputs * sign, 2, return_indices=True)
            pooled *= sign
        else:
            pooled, indices = functional.max_pool2d(inputs, 2, return_indices=True)
        output = torch.addcmul(_channels(shift), pooled, _channels(scale)).relu_()
        ctx.save_for_backward(inputs, pooled, indices, output, scale, mean, inverse)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        inputs, pooled, indices, output, scale, mean, inverse = ctx.saved_tensors
        passed = gradients[0] * (output > 0)
        total = passed.sum((0, 2, 3))
        weight_gradient = ((pooled - _channels(mean)) * passed).sum((0, 2, 3)) * inverse
        # The gradient through the batch's mean and variance is linear in the inputs.
        count = inputs.numel() // inputs.shape[1]
        slope = -scale * inverse * weight_gradient / count
        offset = -scale * total / count - slope * mean
        slope, offset = _channels(slope), _channels(offset)
        passed = passed.mul_(_channels(scale)).contiguous(memory_format=torch.channels_last)
        result = torch.empty_like(inputs)
        for part in _chunks(inputs):
            torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
                passed[part], inputs[part], [2, 2], [2, 2], [0, 0], [1, 1], False, indices[part],
                grad_input=result[part],
            )  # fmt: skip
            result[part].addcmul_(inputs[part], slope).add_(offset)
        return result, weight_gradient, total, None, None


class _DropoutStep:
    def __init__(self, probability: float) -> None:
        self.cut = round(probability * 2**_RANDOM_BITS)
        self.factor = 1 / (1 - self.cut / 2**_RANDOM_BITS)

    def __call__(self, inputs: Tensor) -> Tensor:
        words = torch.empty(-(-inputs.numel() * _RANDOM_BITS // 64), dtype=torch.int64)
        bits = words.random_(-(2**63), None).view(torch.int16)[: inputs.numel()]
        kept = (bits >= self.cut - 2 ** (_RANDOM_BITS - 1)).view(inputs.shape)
        return inputs * kept.to(inputs.dtype).mul_(self.factor)


def _channels(values: Tensor) -> Tensor:
    return values.reshape(1, -1, 1, 1)


def _chunks(inputs: Tensor) -> list[slice]:
    bytes_per_image = inputs[0].numel() * inputs.element_size()
    size = max(1, _CHUNK_BYTES // bytes_per_image)
    return [slice(start, start + size) for start in range(0, len(inputs), size)]
