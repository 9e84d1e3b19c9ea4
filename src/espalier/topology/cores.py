"""Core numbers of a layer graph without its edges.

Nodes are removed level by level. Nothing asks whether a neighbour is still there: its degree is
lowered all the same, and it joins the queue exactly when its degree arrives at the level, which a
removed node's cannot do again. A wave of removals with very many edges, as in dense networks, is
applied by convolving its indicator with the masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from espalier.graphs.layer_graph import LayerGraph
from espalier.topology import csr_kernels
from espalier.topology.neighbours import Neighbours, neighbours, peel, total_degrees

WAVE_SHARE = 1 / 60
"""A wave is convolved if its edges exceed this share of the multiplications of a convolution.

Lowering one degree takes about as long as 60 multiplications of a dense convolution.
"""

_FLOAT32_INTEGERS = 1 << 24


@dataclass(frozen=True, eq=False)
class Cores:
    """Core numbers: the largest k for which a node is in the k-core.

    Attributes:
        coreness: (nodes,) int32.
        total: the sum of all core numbers, exact.
    """

    coreness: np.ndarray
    total: int

    @property
    def nodes(self) -> int:
        """Return the number of nodes."""
        return len(self.coreness)

    @property
    def mean(self) -> float:
        """Return the mean core number; NaN for a graph without nodes."""
        return self.total / self.nodes if self.nodes else float("nan")

    @property
    def degeneracy(self) -> int:
        """Return the largest core number; 0 for a graph without nodes."""
        return int(self.coreness.max(initial=0))


def cores(
    layer_graph: LayerGraph,
    *,
    adjacency: Neighbours | None = None,
    degrees: np.ndarray | None = None,
    wave_share: float = WAVE_SHARE,
    device: str = "cpu",
) -> Cores:
    """Find the core number of every node of a layer graph, exactly.

    The memory is some 20 bytes per node and 8 per kept weight; the edges are never listed.

    Args:
        layer_graph: the network.
        adjacency: from `neighbours`, and
        degrees: from `total_degrees`, where they are at hand already.
        wave_share: see `WAVE_SHARE`; at least 1 for never, 0 for every wave. It decides the time
            only.
        device: the torch device that convolves large waves.

    Raises:
        DataError: the graph is of the published convention (encode it and use `cores_of_csr`) or a
            block does not fit its parts.

    Source: Seidman (1983), "Network structure and minimum degree"; peeled as in Batagelj and
    Zaversnik (2003), "An O(m) algorithm for cores decomposition of networks".
    """
    adjacency = neighbours(layer_graph) if adjacency is None else adjacency
    initial = total_degrees(layer_graph) if degrees is None else degrees
    nodes = len(initial)
    degree = initial.copy()
    core = np.full(nodes, -1, np.int32)
    queue = np.empty(nodes, np.int32)
    live = np.arange(nodes, dtype=np.int32)
    state = np.array([0, 0, -1, nodes])
    convolved = wave_share < 1 and int(initial.max(initial=0)) < _FLOAT32_INTEGERS
    largest_wave = int(wave_share * _multiplications(layer_graph)) if convolved else -1
    large_wave = None
    while peel(adjacency, initial, degree, core, queue, live, state, largest_wave):
        if large_wave is None:
            large_wave = _LargeWave(layer_graph, device)
        head, tail, level = (int(number) for number in state[:3])
        large_wave.lower(degree, queue[head:tail])
        joining = np.flatnonzero((core < 0) & (degree <= level))
        core[joining] = level
        queue[tail : tail + len(joining)] = joining
        state[:2] = tail, tail + len(joining)
    return Cores(core, int(core.sum(dtype=np.int64)))


def cores_of_csr(adjacency: sparse.csr_array | csr_kernels.UndirectedGraph) -> Cores:
    """Find the core number of every node of an explicit graph.

    Args:
        adjacency: (nodes, nodes); triangular or symmetric, as in `csr_kernels.undirected`.

    Raises:
        DataError: as in `csr_kernels.undirected`.
    """
    core = csr_kernels.coreness(adjacency)
    return Cores(core, int(core.sum(dtype=np.int64)))


def _multiplications(layer_graph: LayerGraph) -> int:
    """Return the multiplications of one convolution of every block with its whole mask."""
    return sum(
        block.mask.size * block.rows.target_size * block.columns.target_size
        for block in layer_graph.blocks
    )


class _LargeWave:
    """Counts removed neighbours by convolution: sums of 0 and 1 below 2^24, exact in float32."""

    def __init__(self, layer_graph: LayerGraph, device: str) -> None:
        import torch

        from espalier.topology.operators import Adjacency

        self._torch = torch
        self._operator = Adjacency(layer_graph, weighted=False, dtype=torch.float32, device=device)

    def lower(self, degree: np.ndarray, wave: np.ndarray) -> None:
        """Lower every node's degree by its neighbours in the wave."""
        torch = self._torch
        indicator = torch.zeros(len(degree), dtype=torch.float32)
        indicator[torch.from_numpy(wave).long()] = 1
        with torch.inference_mode():
            removed = self._operator.multiply(indicator.to(self._operator.device))
        degree -= removed.round().to(torch.int32).cpu().numpy()
