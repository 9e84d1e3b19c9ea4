"""How dense each layer of a random network is, and random masks of given densities.

Erdos-Renyi (ER, Mocanu et al. 2018) and Erdos-Renyi-kernel (ERK, Evci et al. 2020, appendix A)
give layer l the density min(1, eps * p_l), with p_l = (n_in + n_out) / (n_in * n_out) for ER and
p_l = (n_in + n_out + kh + kw) / (n_in * n_out * kh * kw) for ERK; eps is such that the layers
together keep the share asked for. Uniform is p_l = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from espalier.errors import ConfigurationError, unknown_name
from espalier.pruning.selection import apportion, keep_count, largest
from espalier.seeds import torch_generator

Shapes = Mapping[str, Sequence[int]]

BUDGETS = ("exact", "layer_floor")
# Guards floors and comparisons of products such as 0.29 * 100 = 28.999999999999996.
_ROUNDING = 1e-9


def uniform_densities(
    shapes: Shapes, density: float, *, dense_first: bool = False, last_at_least: float = 0.0
) -> dict[str, float]:
    """Return one density for all layers.

    Args, errors: as in `erk_densities`. With `dense_first` and `last_at_least=0.2` this is the
    "uniform+" of Liu et al. (2022), whose total is the one asked for.
    """
    raw = dict.fromkeys(shapes, 1.0)
    return _solve(shapes, raw, density, dense_first, last_at_least, "exact")


def er_densities(
    shapes: Shapes,
    density: float,
    *,
    dense_first: bool = False,
    last_at_least: float = 0.0,
    budget: str = "exact",
) -> dict[str, float]:
    """Return the Erdos-Renyi density of each layer; of a convolution the channels alone count.

    Args, errors: as in `erk_densities`.
    """
    raw = {name: (shape[0] + shape[1]) / (shape[0] * shape[1]) for name, shape in shapes.items()}
    return _solve(shapes, raw, density, dense_first, last_at_least, budget)


def erk_densities(
    shapes: Shapes,
    density: float,
    *,
    power_scale: float = 1.0,
    dense_first: bool = False,
    last_at_least: float = 0.0,
    budget: str = "exact",
) -> dict[str, float]:
    """Return the Erdos-Renyi-kernel density of each layer.

    The sum of density * size over the layers is `density` times the sum of the sizes, dense layers
    included.

    Args:
        shapes: shape of each weight, (out, in, ...), in module order.
        density: share of all weights that is kept, in (0, 1].
        power_scale: exponent of p_l; 0 is uniform.
        dense_first: keep the first layer whole, at the cost of the others.
        last_at_least: smallest density of the last layer, at the cost of the others.
        budget: "exact", or "layer_floor": floor((1 - density) * size) of each layer is what is
            removed in all, as the code of RigL counts.

    Raises:
        ConfigurationError: no layers, a density outside (0, 1], an unknown budget, or a first and
            last layer that are larger than what is kept.
    """
    raw = {name: (sum(shape) / math.prod(shape)) ** power_scale for name, shape in shapes.items()}
    return _solve(shapes, raw, density, dense_first, last_at_least, budget)


def uncapped_densities(shapes: Shapes, density: float) -> dict[str, float]:
    """Return eps * (n_in + n_out + kh + kw) / size without a cap at 1: "ER" as published.

    This is the linear initialisation of Dettmers and Zettlemoyer's code, which the sparse topology
    papers used under the name ER. eps is searched from 10 by steps of 50 %, each step 5 % smaller
    than the one before, until the layers keep what is asked for to 5 weights, and is moved by one
    more step then. Densities above 1 are counted but cannot be drawn, so that the network is
    sparser than asked.

    Raises:
        ConfigurationError: no layers, a density outside (0, 1], or a search that does not end.
    """
    _check(shapes, density)
    target = density * sum(_sizes(shapes).values())
    epsilon, factor = 10.0, 0.5
    per_epsilon = sum(sum(shape) for shape in shapes.values())
    # The steps sum up to a factor of about e^10 in either direction and die out after that.
    for _ in range(1000):
        found = epsilon * per_epsilon
        epsilon *= 1 - factor if found > target else 1 + factor
        factor *= 0.95
        if abs(found - target) < 5:
            return {name: epsilon * sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    raise ConfigurationError(
        f"the published search for ER finds no scale for density {density} of these layers; use "
        "the capped solution"
    )


def keep_counts(shapes: Shapes, densities: Mapping[str, float], sparsity: float) -> dict[str, int]:
    """Return whole counts of kept weights that sum to `keep_count` of all weights.

    Each is within one weight of density * size, unless the densities are not those of `sparsity`.
    """
    sizes = _sizes(shapes)
    shares = {name: densities[name] * size for name, size in sizes.items()}
    return apportion(shares, keep_count(sum(sizes.values()), sparsity), sizes)


def nearest_counts(shapes: Shapes, densities: Mapping[str, float]) -> dict[str, int]:
    """Return the whole number of kept weights nearest to min(1, density) * size of each layer."""
    return {name: round(min(densities[name], 1.0) * size) for name, size in _sizes(shapes).items()}


def random_masks(
    shapes: Shapes, counts: Mapping[str, int], seed: int, stream: str
) -> dict[str, Tensor]:
    """Return masks (True = kept) of exactly `counts` weights, each set of places equally likely.

    For one seed and stream the masks of smaller counts are parts of those of larger ones.

    Raises:
        ConfigurationError: no weight would stay.
    """
    _check_some_stay(counts)
    return {
        name: largest(-_uniform_values(shape, seed, stream, name), counts[name])
        for name, shape in shapes.items()
    }


def bernoulli_masks(
    shapes: Shapes, densities: Mapping[str, float], seed: int, stream: str
) -> dict[str, Tensor]:
    """Return masks in which each weight stays with probability min(1, density) by itself.

    The number kept is random; `random_masks` of the same seed and stream nests with it.

    Raises:
        ConfigurationError: no weight happens to stay.
    """
    masks = {
        name: _uniform_values(shape, seed, stream, name) < densities[name]
        for name, shape in shapes.items()
    }
    _check_some_stay({name: int(mask.count_nonzero()) for name, mask in masks.items()})
    return masks


def uniform_scores(shapes: Shapes, seed: int, stream: str) -> dict[str, Tensor]:
    """Return independent uniform float64 values in (-1, 0], the scores of a random choice."""
    return {name: -_uniform_values(shape, seed, stream, name) for name, shape in shapes.items()}


def check_plus_options(last_at_least: float, budget: str = "exact") -> None:
    """Raise the error of options that no layer densities fit.

    Raises:
        ConfigurationError: `last_at_least` outside [0, 1], or an unknown budget.
    """
    if not 0 <= last_at_least <= 1:
        raise ConfigurationError(f"last_at_least is {last_at_least}; it is a density, in [0, 1]")
    if budget not in BUDGETS:
        raise unknown_name("budget", budget, BUDGETS)


def _uniform_values(shape: Sequence[int], seed: int, stream: str, name: str) -> Tensor:
    generator = torch_generator(seed, stream, name)
    return torch.rand(tuple(shape), generator=generator, dtype=torch.float64)


def _check_some_stay(counts: Mapping[str, int]) -> None:
    if not sum(counts.values()):
        raise ConfigurationError("no weight would stay; lower the sparsity")


def _sizes(shapes: Shapes) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def _check(shapes: Shapes, density: float) -> None:
    if not shapes:
        raise ConfigurationError("the model has no layer that can be pruned")
    if not 0 < density <= 1:
        raise ConfigurationError(f"density is {density}; it is the share kept, in (0, 1]")


def _solve(
    shapes: Shapes,
    raw: Mapping[str, float],
    density: float,
    dense_first: bool,
    last_at_least: float,
    budget: str,
) -> dict[str, float]:
    _check(shapes, density)
    check_plus_options(last_at_least, budget)
    sizes = _sizes(shapes)
    kept = {
        name: size - math.floor((1 - density) * size + _ROUNDING)
        if budget == "layer_floor"
        else density * size
        for name, size in sizes.items()
    }
    first, last = next(iter(shapes)), list(shapes)[-1]
    given = {first: 1.0} if dense_first else {}
    solved = _capped(sizes, raw, sum(kept.values()), given)
    if solved[last] < last_at_least:
        solved = _capped(sizes, raw, sum(kept.values()), {**given, last: last_at_least})
    return solved


def _capped(
    sizes: Mapping[str, int],
    raw: Mapping[str, float],
    total_kept: float,
    given: Mapping[str, float],
) -> dict[str, float]:
    """Return min(1, eps * raw) with the one eps that keeps `total_kept`, `given` layers aside."""
    known = dict(given)
    while len(known) < len(sizes):
        used = sum(density * sizes[name] for name, density in known.items())
        if used > total_kept + _ROUNDING * total_kept:
            raise ConfigurationError(
                f"{', '.join(given)} alone would keep {used:.0f} weights, more than the "
                f"{total_kept:.0f} of the whole network; lower the sparsity, or leave them sparse"
            )
        open_layers = [name for name in sizes if name not in known]
        epsilon = max(total_kept - used, 0.0) / sum(raw[name] * sizes[name] for name in open_layers)
        highest = max(raw[name] for name in open_layers)
        if epsilon * highest <= 1:
            known.update({name: epsilon * raw[name] for name in open_layers})
        else:
            known.update({name: 1.0 for name in open_layers if raw[name] == highest})
    return {name: known[name] for name in sizes}
