"""Spectral gap and spectral radius by Lanczos iteration in float64, with checked residuals.

The matrix is never formed where that would be slower: its product with a vector is one convolution
and one transposed convolution per layer. Where the parts can be coloured with two colours the
singular values of one half of the matrix are computed instead: half the work and a fraction of the
memory for the same Krylov space. Start vectors are fixed, so the same graph gives the same value.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph

from espalier.errors import DataError, EspalierError, unknown_name
from espalier.graphs.layer_graph import CONVENTIONS, LayerGraph
from espalier.topology.degrees import degree_fields, edge_count, strength_fields
from espalier.topology.operators import Adjacency, adjacency_csr, multiplications, sizes

GAP_TOLERANCE = 1e-6
"""Residual over the largest eigenvalue; an eigenvalue's error is of the order of its square."""

RADIUS_TOLERANCE = 1e-5

LARGE_GRAPH = 1_000_000
"""From this many nodes on the gap is approached in float32 before it is finished in float64."""

LARGE_TOLERANCE = 1e-5
"""Tolerance of the gap of a large graph, where a smaller one would cost minutes in float64."""

DENSE_NODES = 256
"""Up to this many nodes all eigenvalues are computed by dense linear algebra."""

BASIS_BYTES = 2 << 30
"""Bounds the Krylov basis; a longer one is restarted with its best vectors."""

# Multiplications of a dense convolution that cost as much as one explicit edge.
_DENSE_PER_EDGE = 60
_CSR_EDGES = 50_000_000
_DISTINCT = 1e-9


class SpectralValue(NamedTuple):
    """A value computed from eigenvalues.

    Attributes:
        value: the value.
        residual: largest norm of A x - lambda x over the eigenpairs used, x of norm 1.
        steps: products with the matrix (or, with two colours, with its half and back).
    """

    value: float
    residual: float
    steps: int


class Eigenvalues(NamedTuple):
    """Eigenvalues, their residual norms and vectors.

    Attributes:
        values: (k,) float64.
        residuals: (k,) float64, norms of A x - lambda x.
        vectors: (k, size), norm 1.
        steps: products with the matrix.
    """

    values: np.ndarray
    residuals: np.ndarray
    vectors: torch.Tensor
    steps: int


def spectral_gap(
    graph: LayerGraph | sparse.csr_array,
    convention: str = "definition",
    *,
    tolerance: float = GAP_TOLERANCE,
    max_steps: int = 2000,
    device: str | torch.device = "cpu",
) -> SpectralValue:
    """Gap at the top of the spectrum of the weighted adjacency matrix, directions ignored.

    "definition" is the largest eigenvalue minus the next distinct one. "published" is the
    difference of the largest and the third largest magnitude of an eigenvalue, which is the same
    where the graph is bipartite. Over several components the spectrum is that of their union. An
    eigenvalue that occurs several times is found once (up to `DENSE_NODES` nodes: as often as it
    occurs), as by any Krylov method with one start vector. A graph whose weights are all 0 has
    gap 0.

    Args:
        graph: a layer graph, or explicit (nodes, nodes) edges with weights in one direction.
        convention: "definition" or "published".
        tolerance: largest residual over the largest eigenvalue; at least `LARGE_TOLERANCE` from
            `LARGE_GRAPH` nodes on.
        max_steps: products with the matrix before giving up.
        device: where the convolutions run; explicit edges always run on the CPU.

    Raises:
        ConfigurationError: an unknown convention.
        DataError: a block does not fit its parts, or the matrix is not square.
        EspalierError: no convergence within `max_steps`.

    Source: Cunegatti et al. (TMLR 2024); Lanczos with full reorthogonalisation and thick restart,
    Wu and Simon (SIAM J. Matrix Anal. Appl. 22, 2000).
    """
    if convention not in CONVENTIONS:
        raise unknown_name("convention", convention, CONVENTIONS)
    matrix = _matrix(graph, torch.device(device))
    if float(matrix.strengths.sum()) == 0:
        return SpectralValue(0.0, 0.0, 0)
    if matrix.size <= DENSE_NODES:
        values = np.linalg.eigvalsh(matrix.dense())
        return SpectralValue(_gap(values, convention), _rounding(values), 0)
    half = matrix.half()
    large = matrix.size >= LARGE_GRAPH
    if half is not None:
        found = _extreme(half, _two_largest, tolerance, max_steps, large)
        # An eigenvalue of the squared half is the square of two of the whole, one of each sign.
        roots = np.sqrt(np.maximum(found.values, 0))
        if roots.size == 1:
            second = 0.0 if 2 * half.size < matrix.size else -roots[0]
            roots = np.array([second, roots[0]])
        residual = float(found.residuals.max() / (np.sqrt(2) * roots[-1]))
        return SpectralValue(float(roots[-1] - roots[-2]), residual, found.steps)
    wanted = _two_largest if convention == "definition" else _three_by_magnitude
    found = _extreme(matrix, wanted, tolerance, max_steps, large)
    return SpectralValue(_gap(found.values, convention), float(found.residuals.max()), found.steps)


def spectral_radius(
    graph: LayerGraph | sparse.csr_array,
    *,
    tolerance: float = RADIUS_TOLERANCE,
    max_steps: int = 2000,
    device: str | torch.device = "cpu",
) -> SpectralValue:
    """Largest eigenvalue of the weighted Laplacian D - A, directions ignored.

    It is computed in float64 throughout, since the difference of D and A cancels in float32. Args
    and errors are those of `spectral_gap`.
    """
    matrix = _matrix(graph, torch.device(device))
    strengths = matrix.strengths
    if float(strengths.sum()) == 0:
        return SpectralValue(0.0, 0.0, 0)
    if matrix.size <= DENSE_NODES:
        dense = matrix.dense()
        values = np.linalg.eigvalsh(np.diag(dense.sum(axis=1)) - dense)
        return SpectralValue(float(values[-1]), _rounding(values), 0)

    def laplacian(x: torch.Tensor) -> torch.Tensor:
        return strengths * x - matrix.multiply(x)

    # The constant vector is in the kernel: signs that differ between neighbours lead away from it.
    start = _start(strengths) * matrix.signs
    found = lanczos(laplacian, start, _largest, tolerance, max_steps)
    return SpectralValue(float(found.values[0]), float(found.residuals[0]), found.steps)


def lanczos(
    multiply: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    wanted: Callable[[np.ndarray], np.ndarray | None],
    tolerance: float,
    max_steps: int,
    basis_bytes: int = BASIS_BYTES,
) -> Eigenvalues:
    """Eigenvalues of a symmetric matrix by Lanczos with full reorthogonalisation.

    Args:
        multiply: the product of the matrix with a (size,) vector.
        start: (size,) start vector, not 0; its type and device are those of the iteration.
        wanted: from ascending Ritz values, the indices to converge, or None while there are too
            few of them.
        tolerance: largest residual over the largest magnitude of a Ritz value.
        max_steps: products before giving up.
        basis_bytes: bound on the stored basis, 12 vectors at least; beyond it the iteration is
            restarted with its best vectors.

    Returns:
        The wanted eigenvalues, ascending; all that the start vector reaches if those are too few.

    Raises:
        EspalierError: no convergence within `max_steps`.
    """
    size = start.numel()
    limit = min(max(12, basis_bytes // (size * start.element_size())), size, max_steps + 1)
    basis = _Basis(start, limit)
    projected = np.zeros((0, 0))
    rounding = 50 * torch.finfo(start.dtype).eps
    largest = 0.0
    for steps in range(1, max_steps + 1):
        row, rest, norm = basis.orthogonalised(multiply(basis.last))
        k = basis.length
        grown = np.zeros((k, k))
        grown[:-1, :-1] = projected
        grown[-1] = grown[:, -1] = row
        projected = grown
        complete = k == size or norm <= rounding * float(np.abs(projected).max())
        if complete or k == limit or steps % 4 == 0 or steps == max_steps:
            values, vectors = np.linalg.eigh(projected)
            residuals = np.abs(vectors[-1]) * norm
            chosen = wanted(values)
            if complete and chosen is None:
                chosen = np.arange(k)
            largest = float(np.abs(values).max())
            if chosen is not None and (complete or residuals[chosen].max() <= tolerance * largest):
                ritz = basis.combined(vectors[:, chosen])
                return Eigenvalues(values[chosen], residuals[chosen], ritz, steps)
            if k == limit:
                kept = _restart_with(values, chosen, limit // 2)
                basis.restart(vectors[:, kept])
                projected = np.diag(values[kept])
        basis.append(rest / norm)
    raise EspalierError(
        f"no convergence to {tolerance:.0e} in {max_steps} products with the matrix (largest value "
        f"{largest:.6g}); raise max_steps or the tolerance"
    )


class _Basis:
    """Orthonormal vectors, the rows of one array."""

    def __init__(self, start: torch.Tensor, limit: int) -> None:
        # Rows are resident only once they are written.
        self._rows = torch.empty((limit + 1, start.numel()), dtype=start.dtype, device=start.device)
        self._rows[0] = start / torch.linalg.vector_norm(start)
        self.length = 1

    @property
    def last(self) -> torch.Tensor:
        return self._rows[self.length - 1]

    def append(self, vector: torch.Tensor) -> None:
        self._rows[self.length] = vector
        self.length += 1

    def orthogonalised(self, vector: torch.Tensor) -> tuple[np.ndarray, torch.Tensor, float]:
        """The coefficients of a vector in the basis, what is left of it, and the norm of that."""
        # The last two vectors carry nearly all: without them one pass over the rest is enough.
        recent = self._rows[max(self.length - 2, 0) : self.length]
        local = recent @ vector
        vector = vector - recent.T @ local
        rows = self._rows[: self.length]
        coefficients = rows @ vector
        vector -= rows.T @ coefficients
        coefficients[-local.numel() :] += local
        norm = float(torch.linalg.vector_norm(vector))
        return coefficients.double().cpu().numpy(), vector, norm

    def combined(self, weights: np.ndarray) -> torch.Tensor:
        """(columns of weights, size) linear combinations of the vectors."""
        return torch.from_numpy(weights.T.copy()).to(self._rows) @ self._rows[: self.length]

    def restart(self, weights: np.ndarray) -> None:
        """Keep some combinations of the vectors and forget the vectors."""
        # In pieces along the nodes, so that no second basis is held.
        weight = torch.from_numpy(weights.T.copy()).to(self._rows)
        for start in range(0, self._rows.shape[1], 1 << 16):
            piece = slice(start, start + (1 << 16))
            self._rows[: weight.shape[0], piece] = weight @ self._rows[: self.length, piece]
        self.length = weight.shape[0]


def _restart_with(values: np.ndarray, chosen: np.ndarray | None, count: int) -> np.ndarray:
    if chosen is None or chosen.min() >= values.size - count:
        return np.arange(values.size - count, values.size)
    by_distance = np.argsort(np.abs(values - np.median(values)))
    return np.union1d(by_distance[-count:], chosen)


def _largest(values: np.ndarray) -> np.ndarray | None:
    return np.array([values.size - 1])


def _two_largest(values: np.ndarray) -> np.ndarray | None:
    """The largest value and the next distinct one."""
    smaller = np.flatnonzero(values < values[-1] - _DISTINCT * np.abs(values).max())
    return np.array([smaller[-1], values.size - 1]) if smaller.size else None


def _three_by_magnitude(values: np.ndarray) -> np.ndarray | None:
    return np.sort(np.argsort(np.abs(values))[-3:]) if values.size >= 3 else None


def _gap(values: np.ndarray, convention: str) -> float:
    """The gap from ascending eigenvalues, which may be all or the extreme ones."""
    if convention == "published":
        magnitude = np.sort(np.abs(values))
        return float(magnitude[-1] - magnitude[-3]) if values.size >= 3 else 0.0
    chosen = _two_largest(values)
    return 0.0 if chosen is None else float(values[-1] - values[chosen[0]])


def _rounding(values: np.ndarray) -> float:
    return float(np.finfo(np.float64).eps * np.abs(values).max() * np.sqrt(values.size))


def _start(strengths: torch.Tensor) -> torch.Tensor:
    """Strengths, made uneven so that no eigenvector is orthogonal to them by symmetry."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    uneven = torch.rand(strengths.numel(), generator=generator, dtype=torch.float64).to(strengths)
    return strengths * (0.75 + 0.5 * uneven) + 1e-3 * strengths.mean() * (uneven - 0.5)


def _extreme(
    matrix: _Symmetric,
    wanted: Callable[[np.ndarray], np.ndarray | None],
    tolerance: float,
    max_steps: int,
    large: bool,
) -> Eigenvalues:
    start = _start(matrix.strengths)
    if not large or wanted is not _two_largest:
        return lanczos(matrix.multiply, start, wanted, tolerance, max_steps)
    tolerance = max(tolerance, LARGE_TOLERANCE)
    rough = lanczos(matrix.single().multiply, start.float(), wanted, tolerance, max_steps)
    return _finished(matrix.multiply, rough, tolerance, max_steps)


def _finished(
    multiply: Callable[[torch.Tensor], torch.Tensor],
    rough: Eigenvalues,
    tolerance: float,
    max_steps: int,
) -> Eigenvalues:
    """Refine float32 eigenvectors by Rayleigh-Ritz in float64 on their block Krylov space."""
    block = rough.vectors.double()
    basis = torch.empty((0, block.shape[1]), dtype=block.dtype, device=block.device)
    images = torch.empty_like(basis)
    steps = rough.steps
    while True:
        block = block - (block @ basis.T) @ basis
        block = torch.linalg.qr(block.T)[0].T
        block = block - (block @ basis.T) @ basis
        block = torch.linalg.qr(block.T)[0].T
        images = torch.cat([images, torch.stack([multiply(x) for x in block])])
        basis = torch.cat([basis, block])
        steps += block.shape[0]
        projected = basis @ images.T
        values, vectors = torch.linalg.eigh((projected + projected.T) / 2)
        values, vectors = values[-2:], vectors[:, -2:]
        block = vectors.T @ images - values[:, None] * (vectors.T @ basis)
        residuals = torch.linalg.vector_norm(block, dim=1)
        if float(residuals.max()) <= tolerance * float(values[-1]):
            return Eigenvalues(
                values.cpu().numpy(), residuals.cpu().numpy(), vectors.T @ basis, steps
            )
        if steps >= max_steps:
            raise EspalierError(
                f"no convergence to {tolerance:.0e} in {max_steps} products with the matrix; "
                "raise max_steps or the tolerance"
            )


class _Symmetric(Protocol):
    """A symmetric matrix with non-negative entries as an operator."""

    size: int
    strengths: torch.Tensor

    def multiply(self, x: torch.Tensor) -> torch.Tensor: ...

    def single(self) -> _Symmetric: ...


class _Convolutions:
    """The adjacency matrix by convolutions; float64 unless single."""

    def __init__(
        self, layer_graph: LayerGraph, device: torch.device, dtype: torch.dtype = torch.float64
    ) -> None:
        self._graph = layer_graph
        self._adjacency = Adjacency(layer_graph, dtype=dtype, device=device)
        self._device = device
        self.size = layer_graph.nodes
        flat = [field.reshape(-1) for field in strength_fields(layer_graph).total]
        self.strengths = torch.from_numpy(np.concatenate(flat)).to(device, dtype)
        colours, self._proper = _part_colours(layer_graph)
        self._colours = colours
        sizes = [part.nodes for part in layer_graph.parts]
        self.signs = torch.from_numpy(np.repeat(1 - 2 * colours, sizes)).to(device, dtype)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        return self._adjacency.multiply(x)

    def single(self) -> _Convolutions:
        return _Convolutions(self._graph, self._device, torch.float32)

    def dense(self) -> np.ndarray:
        return _Edges(adjacency_csr(self._graph)).dense()

    def half(self) -> _HalfConvolutions | None:
        if not self._proper:
            return None
        nodes = [
            sum(p.nodes for p, c in zip(self._graph.parts, self._colours, strict=True) if c == k)
            for k in (0, 1)
        ]
        parts = [set(np.flatnonzero(self._colours == k).tolist()) for k in (0, 1)]
        small = int(nodes[1] < nodes[0])
        return _HalfConvolutions(self, self._adjacency, self._graph, parts[small], parts[1 - small])


class _HalfConvolutions:
    """From the parts of one colour to the other and back."""

    def __init__(
        self,
        whole: _Convolutions,
        adjacency: Adjacency,
        layer_graph: LayerGraph,
        parts: set[int],
        others: set[int],
    ) -> None:
        self._whole, self._adjacency = whole, adjacency
        self._graph, self._parts, self._others = layer_graph, parts, others
        offsets = layer_graph.offsets.tolist()
        self._slices = [slice(offsets[p], offsets[p + 1]) for p in sorted(parts)]
        self.size = sum(s.stop - s.start for s in self._slices)
        self.strengths = self._own(whole.strengths)

    def _own(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[s] for s in self._slices])

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        full = x.new_zeros(self._whole.size)
        for piece, values in zip(
            self._slices, x.split([s.stop - s.start for s in self._slices]), strict=True
        ):
            full[piece] = values
        across = self._adjacency.multiply_from(full, self._parts)
        return self._own(self._adjacency.multiply_from(across, self._others))

    def single(self) -> _HalfConvolutions:
        whole = self._whole.single()
        return _HalfConvolutions(whole, whole._adjacency, self._graph, self._parts, self._others)


class _Edges:
    """The adjacency matrix by explicit edges, on the CPU."""

    def __init__(self, directed: sparse.csr_array) -> None:
        rows, columns = sizes(directed)
        if rows != columns:
            raise DataError(f"the adjacency matrix is {(rows, columns)}, not square")
        weights = abs(sparse.csr_array(directed).astype(np.float64))
        self._matrix = sparse.csr_array(weights + weights.T)
        self.size = rows
        self.strengths = torch.from_numpy(self._matrix.sum(axis=1))
        self._colours = _node_colours(self._matrix)
        signs = np.ones(self.size) if self._colours is None else 1.0 - 2.0 * self._colours
        self.signs = torch.from_numpy(signs)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._matrix @ x.numpy())

    def single(self) -> _Edges:
        return self

    def dense(self) -> np.ndarray:
        return self._matrix.toarray()

    def half(self) -> _HalfEdges | None:
        if self._colours is None:
            return None
        one = np.flatnonzero(self._colours)
        other = np.flatnonzero(~self._colours)
        small, large = sorted((one, other), key=len)
        return _HalfEdges(self._matrix[large][:, small], self.strengths[torch.from_numpy(small)])


class _HalfEdges:
    def __init__(self, across: sparse.csr_array, strengths: torch.Tensor) -> None:
        self._across, self._back = across, sparse.csr_array(across.T)
        self.size = strengths.numel()
        self.strengths = strengths

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._back @ (self._across @ x.numpy()))

    def single(self) -> _HalfEdges:
        return self


def _matrix(graph: LayerGraph | sparse.csr_array, device: torch.device) -> _Convolutions | _Edges:
    if not isinstance(graph, LayerGraph):
        return _Edges(graph)
    edges = edge_count(degree_fields(graph))
    explicit = edges * _DENSE_PER_EDGE < multiplications(graph) and edges < _CSR_EDGES
    if device.type == "cpu" and (explicit or graph.nodes <= DENSE_NODES):
        return _Edges(adjacency_csr(graph))
    return _Convolutions(graph, device)


def _part_colours(layer_graph: LayerGraph) -> tuple[np.ndarray, bool]:
    """(parts,) 0/1 such that blocks join different colours, and whether that is possible."""
    neighbours: dict[int, list[int]] = defaultdict(list)
    for block in layer_graph.blocks:
        if block.mask.any():
            neighbours[block.source].append(block.target)
            neighbours[block.target].append(block.source)
    colours = np.full(len(layer_graph.parts), -1)
    for first in range(colours.size):
        if colours[first] >= 0:
            continue
        colours[first] = 0
        queue = deque([first])
        while queue:
            part = queue.popleft()
            for other in neighbours[part]:
                if colours[other] < 0:
                    colours[other] = 1 - colours[part]
                    queue.append(other)
    proper = all(
        colours[part] != colours[other] for part, others in neighbours.items() for other in others
    )
    return colours, proper


def _node_colours(symmetric: sparse.csr_array) -> np.ndarray | None:
    """(nodes,) bool such that edges join different colours, or None if there is none."""
    # In the bipartite double cover a component falls into two exactly if it is bipartite.
    pattern = symmetric.tocoo()
    present = pattern.data > 0
    row, column = pattern.row[present], pattern.col[present]
    size = symmetric.indptr.size - 1
    cover = sparse.coo_array(
        (np.ones(row.size, np.int8), (row, column + size)), shape=(2 * size, 2 * size)
    )
    _, label = csgraph.connected_components(cover.tocsr(), directed=False)
    if (label[:size] == label[size:]).any():
        return None
    return label[:size] < label[size:]
