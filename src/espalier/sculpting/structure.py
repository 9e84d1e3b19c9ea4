"""Tests of structure on the weights of a network: path products, separable inputs, reused units.

Patil et al. (2023), section 2. The weight of a path is the product of the absolute weights along
it. Inputs are separable when the paths to the outputs of others weigh less than those to their own;
units are reused when few of them carry most of the weight of all paths.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from espalier.errors import ConfigurationError, DataError, unknown_name


@dataclass(frozen=True)
class WelchTest:
    """A one-sided Welch test that the first mean is smaller than the second.

    Attributes:
        statistic: Welch's t; infinite where neither sample varies.
        p_value: probability of so small a statistic under equal means.
    """

    statistic: float
    p_value: float


def path_products(weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the weight of all paths from every input to every output, (inputs, outputs) float64.

    Args:
        weights: one (n_out, n_in) matrix per layer, from the inputs on; pruned weights are zeros.

    Raises:
        DataError: no layer, or shapes that do not chain.

    Source: Patil et al. (2023), section 2.1, pi(i, j).
    """
    return _products(weights, 0).T


def separability_tests(
    products: np.ndarray, groups: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> tuple[WelchTest, ...]:
    """Test for each group of inputs that its paths to the outputs of others weigh less.

    Args:
        products: (inputs, outputs) of `path_products`.
        groups: positions of the inputs and of the outputs that belong together, group by group;
            ((0, 1), (0, 1)) and ((2, 3), (2, 3)) for the function 4-2-4.

    Returns:
        One Welch test (unequal variances, one-sided) per group. The inputs are separable if all
        are rejected; the published level is not stated, and 0.05 gives the published Table 1.

    Raises:
        DataError: fewer than two groups, an empty one, or a sample of fewer than two products.

    Source: Patil et al. (2023), section 2.1.
    """
    if len(groups) < 2:
        raise DataError(f"separability is tested between two groups or more, not {len(groups)}")
    tests = []
    for k, (inputs, own) in enumerate(groups):
        others = [output for j, (_, outputs) in enumerate(groups) if j != k for output in outputs]
        samples = [products[np.ix_(inputs, outputs)].ravel() for outputs in (others, own)]
        if min(len(sample) for sample in samples) < 2:
            raise DataError(
                f"group {k} gives samples of {len(samples[0])} and {len(samples[1])} path "
                "products; a Welch test needs two in each"
            )
        tests.append(_welch(*samples))
    return tuple(tests)


def units_covering(
    weights: Sequence[np.ndarray],
    layer: int,
    share: float = 0.9,
    convention: str = "definition",
) -> int:
    """Return how many units of a hidden layer carry `share` of the weight of the paths from it.

    Args:
        weights: one (n_out, n_in) matrix per layer.
        layer: 1 is the first hidden layer.
        share: of the summed path weights; 0.9 gives the published N_90.
        convention: "definition" is the smallest number of units that reach the share;
            "published" the smallest number that exceeds it. They differ where the share is met
            exactly.

    Returns:
        The number of units; 0 where no path leaves the layer.

    Raises:
        DataError: shapes that do not chain, or no such hidden layer.
        ConfigurationError: a share outside (0, 1], or an unknown convention.

    Source: Patil et al. (2023), section 2.2.
    """
    if not 0 < share <= 1:
        raise ConfigurationError(f"share is {share}; it must be above 0 and at most 1")
    if convention not in ("definition", "published"):
        raise unknown_name("convention", convention, ("definition", "published"))
    if not 1 <= layer < len(weights):
        raise DataError(
            f"layer {layer} is not hidden; the hidden layers are 1 to {len(weights) - 1}"
        )
    carried = np.sort(_products(weights, layer).sum(axis=0))[::-1]
    total = carried.sum()
    if total == 0:
        return 0
    summed = np.cumsum(carried)
    side = "left" if convention == "definition" else "right"
    # The sum in this order: the last partial sum is the total to the last bit.
    count = int(np.searchsorted(summed, share * summed[-1], side=side)) + 1
    return min(count, len(carried))


def _products(weights: Sequence[np.ndarray], layer: int) -> np.ndarray:
    """Return (outputs, units of `layer`): the weight of the paths between them."""
    if not weights:
        raise DataError("a network has at least one layer of weights")
    matrices = [np.abs(np.asarray(matrix, dtype=np.float64)) for matrix in weights]
    for k, matrix in enumerate(matrices):
        if matrix.ndim != 2:
            raise DataError(
                f"layer {k} has weights of shape {matrix.shape}; expected (n_out, n_in)"
            )
        if k and matrix.shape[1] != matrices[k - 1].shape[0]:
            raise DataError(
                f"layer {k} takes {matrix.shape[1]} units, but layer {k - 1} gives "
                f"{matrices[k - 1].shape[0]}"
            )
    product = matrices[-1]
    for matrix in reversed(matrices[layer:-1]):
        product = product @ matrix
    return product


def _welch(first: np.ndarray, second: np.ndarray) -> WelchTest:
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        # Pruned networks: nothing varies, and the means themselves decide.
        difference = float(first[0] - second[0])
        statistic = float(np.sign(difference)) * np.inf if difference else 0.0
        return WelchTest(statistic, 0.0 if difference < 0 else 0.5 if difference == 0 else 1.0)
    with warnings.catch_warnings():
        # One sample without variance is usual here: no path is left between separated groups.
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        found: Any = stats.ttest_ind(first, second, equal_var=False, alternative="less")
    return WelchTest(float(found.statistic), float(found.pvalue))


__all__ = ["WelchTest", "path_products", "separability_tests", "units_covering"]
