"""Exact counts of connected induced subgraphs of 3 and 4 nodes, and of nodes two hops away.

All of them follow from codegrees: how many common neighbours two nodes have. Between two parts the
codegrees of all pairs of positions take few forms only, one per class of border, and each form is
a sum of slices of one matrix product over the channels in between. The cost therefore depends on
channels and kernels, not on the size of the feature maps or on the number of edges.

Matrix products are in float32, exact since every entry is an integer below 2^24 (checked); sums of
products are in float64 while below 2^53 and in int64 beyond; totals are Python integers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from espalier.errors import DataError, EspalierError
from espalier.graphs.layer_graph import LayerGraph
from espalier.topology.blocks import (
    Side,
    checked_blocks,
    sides,
    without_groups,
)
from espalier.topology.class_sums import ClassSums, class_sums
from espalier.topology.degrees import NodeFields, degree_counts, degree_fields, edge_count
from espalier.topology.exact_sums import EXACT_INT64
from espalier.topology.operators import Adjacency, sizes

if TYPE_CHECKING:
    from espalier.graphs.layer_graph import Block

CLASS_BYTES = 64 << 20
"""Largest single array of class matrices; wider layers are worked off channel by channel."""

# Multiplications that take as long as one call of a matrix product.
_CALL = 1 << 20
_EXACT_FLOAT32 = 1 << 24
_EXACT_FLOAT64 = 1 << 53


@dataclass(frozen=True)
class FourVertexCounts:
    """Connected induced subgraphs of four nodes, directions ignored.

    Attributes:
        star, path, cycle: the trees and the cycle.
        paw: a triangle with one more edge.
        diamond: a cycle with one diagonal.
        clique: all six edges.
    """

    star: int
    path: int
    cycle: int
    paw: int
    diamond: int
    clique: int

    @property
    def total(self) -> int:
        """Return the number of connected sets of four nodes."""
        return self.star + self.path + self.cycle + self.paw + self.diamond + self.clique


@dataclass(frozen=True)
class SubgraphCounts:
    """Small subgraphs of a graph, exact.

    Attributes:
        nodes, edges: of the graph.
        path, triangle: connected induced subgraphs of three nodes, directions ignored.
        four: those of four nodes, None if not asked for.
        two_hop_pairs: ordered pairs (u, w), w reached from u by two edges along their direction
            but not by one.
    """

    nodes: int
    edges: int
    path: int
    triangle: int
    four: FourVertexCounts | None
    two_hop_pairs: int

    @property
    def three_total(self) -> int:
        """Return the number of connected sets of three nodes."""
        return self.path + self.triangle

    @property
    def two_hop_mean(self) -> float:
        """Return the mean number of nodes within two steps along the direction, self included."""
        return (self.nodes + self.edges + self.two_hop_pairs) / self.nodes


def four_adjacent_parts(layer_graph: LayerGraph) -> tuple[int, int, int, int] | None:
    """Four parts of which each two are joined by a block, or None.

    Only then can four nodes be mutually adjacent, since no block stays within a part.
    """
    neighbours: dict[int, set[int]] = defaultdict(set)
    for block in layer_graph.blocks:
        if block.mask.any():
            neighbours[block.source].add(block.target)
            neighbours[block.target].add(block.source)
    for a in sorted(neighbours):
        for b in sorted(n for n in neighbours[a] if n > a):
            common = sorted(n for n in neighbours[a] & neighbours[b] if n > b)
            for c, d in combinations(common, 2):
                if d in neighbours[c]:
                    return a, b, c, d
    return None


def subgraph_counts(
    layer_graph: LayerGraph,
    degrees: NodeFields | None = None,
    *,
    four: bool = True,
    class_bytes: int = CLASS_BYTES,
) -> SubgraphCounts:
    """Count triangles, paths, four-node subgraphs and two-hop pairs without an edge list.

    Args:
        layer_graph: the network.
        degrees: its degree fields, if at hand.
        four: count the subgraphs of four nodes too.
        class_bytes: bounds the temporary arrays; the result does not depend on it.

    Raises:
        DataError: a block does not fit its parts; four parts are mutually adjacent (with `four`),
            which needs explicit edges; or a codegree of 2^24 or more.

    Source: non-induced counts from codegrees, made induced by inclusion and exclusion, as in
    Pinar, Seshadhri and Vishal, "ESCAPE" (WWW 2017).
    """
    if four and (clique := four_adjacent_parts(layer_graph)):
        names = ", ".join(repr(layer_graph.parts[p].name) for p in clique)
        raise DataError(
            f"parts {names} are mutually adjacent, so four nodes can be: their cliques are not "
            "counted without edges. Encode the graph explicitly and use motifs_of_csr, or ask for "
            "three nodes and two hops only (four=False)"
        )
    degrees = degree_fields(layer_graph) if degrees is None else degrees
    histogram = degree_counts(degrees)
    if histogram.size > _EXACT_FLOAT32:
        raise DataError(
            f"the largest degree is {histogram.size - 1}; codegrees are exact below "
            f"{_EXACT_FLOAT32} only"
        )
    sweep = _Sweep(layer_graph, degrees, class_bytes)
    sweep.run()
    wedges = binomial_sum(histogram, 2)
    edges = edge_count(degrees)
    _check_codegrees(sweep, wedges, edges)
    triangles = sweep.on_edges // 3
    counts = None
    if four:
        counts = induced_counts(
            stars=binomial_sum(histogram, 3),
            paths=_path_ends(layer_graph, degrees) - 3 * triangles,
            cycles=(2 * sweep.between + sweep.within - wedges) // 4,
            triangles=triangles,
            diamonds=sweep.diamonds,
            degree_on_edges=sweep.degree_on_edges,
            cliques=0,
        )
    return SubgraphCounts(
        layer_graph.nodes,
        edges,
        wedges - 3 * triangles,
        triangles,
        counts,
        sweep.two_hop_pairs,
    )


def motifs_of_csr(adjacency: sparse.csr_array) -> SubgraphCounts:
    """The same counts from explicit edges, by the square of the adjacency matrix.

    Its memory grows with the sum of squared degrees; meant for small graphs and as the oracle.

    Args:
        adjacency: (nodes, nodes); an entry (u, v) is an edge from u to v, whatever its value.

    Raises:
        DataError: not square, or an edge from a node to itself.
    """
    directed = _pattern(adjacency)
    symmetric = _pattern(directed + directed.T)
    degree = symmetric.sum(axis=1).astype(np.int64)
    squared: Any = symmetric @ symmetric
    codegrees = squared.tocoo()
    upper = codegrees.row < codegrees.col
    pairs = codegrees.data[upper].astype(np.int64)
    # Keeps edges without a common neighbour out: only their common neighbours are summed.
    on_edges = squared.multiply(symmetric).tocoo()
    upper = on_edges.row < on_edges.col
    row, column = on_edges.row[upper], on_edges.col[upper]
    common = on_edges.data[upper].astype(np.int64)
    edges = symmetric.tocoo()
    path_ends = int(((degree[edges.row] - 1) * (degree[edges.col] - 1)).sum()) // 2
    triangles = int(common.sum()) // 3
    histogram = np.bincount(degree)
    four = induced_counts(
        stars=binomial_sum(histogram, 3),
        paths=path_ends - 3 * triangles,
        cycles=int((pairs * (pairs - 1) // 2).sum()) // 2,
        triangles=triangles,
        diamonds=int((common * (common - 1) // 2).sum()),
        degree_on_edges=int((common * (degree[row] + degree[column])).sum()),
        cliques=_cliques(symmetric, row[common > 1], column[common > 1]),
    )
    return SubgraphCounts(
        degree.size,
        directed.nnz,
        binomial_sum(histogram, 2) - 3 * triangles,
        triangles,
        four,
        _two_hop_pairs(directed),
    )


def two_hop_of_csr(adjacency: sparse.csr_array) -> float:
    """Mean number of distinct nodes within two steps along the direction, self included.

    Args and errors as in `motifs_of_csr`.
    """
    directed = _pattern(adjacency)
    nodes = directed.indptr.size - 1
    return (nodes + directed.nnz + _two_hop_pairs(directed)) / nodes


def induced_counts(
    *,
    stars: int,
    paths: int,
    cycles: int,
    triangles: int,
    diamonds: int,
    degree_on_edges: int,
    cliques: int,
) -> FourVertexCounts:
    """Turn counts of subgraphs, induced or not, into counts of induced ones.

    `degree_on_edges` is the sum over edges of their triangles times the degrees of both ends.
    """
    paws = degree_on_edges // 2 - 6 * triangles
    diamond = diamonds - 6 * cliques
    cycle = cycles - diamond - 3 * cliques
    paw = paws - 4 * diamond - 12 * cliques
    path = paths - 2 * paw - 4 * cycle - 6 * diamond - 12 * cliques
    star = stars - paw - 2 * diamond - 4 * cliques
    return FourVertexCounts(star, path, cycle, paw, diamond, cliques)


def binomial_sum(histogram: np.ndarray, k: int) -> int:
    """Sum of C(degree, k) over nodes, as a Python integer."""
    present = np.flatnonzero(histogram)
    return sum(int(histogram[d]) * math.comb(int(d), k) for d in present)


def _check_codegrees(sweep: _Sweep, wedges: int, edges: int) -> None:
    """Codegrees add up to the paths of two edges, and each four-cycle was met four times."""
    # Within a part each pair was met in both orders, and each node with itself at its degree.
    met = 2 * sweep.codegrees_between + sweep.codegrees_within - 2 * edges
    if met != 2 * wedges or sweep.on_edges % 3 or sweep.degree_on_edges % 2:
        raise EspalierError(
            f"codegrees add up to {met}, degrees say {2 * wedges}: the counts are wrong, please "
            "report the network"
        )
    if (2 * sweep.between + sweep.within - wedges) % 4:
        raise EspalierError(
            "the number of four-cycles is not whole: the counts are wrong, please report the "
            "network"
        )


def _path_ends(layer_graph: LayerGraph, degrees: NodeFields) -> int:
    """Sum over edges of (degree - 1) of one end times (degree - 1) of the other."""
    adjacency = Adjacency(layer_graph, weighted=False, dtype=torch.float64)
    less_one = torch.from_numpy(
        np.concatenate([f.reshape(-1) for f in degrees.total]).astype(np.float64) - 1
    )
    reached = adjacency.forward(less_one)
    if float(reached.abs().max()) >= _EXACT_FLOAT64:
        raise DataError("degrees are too large to sum exactly over the neighbours of a node")
    return _exact_dot(less_one, reached)


def _exact_dot(a: torch.Tensor, b: torch.Tensor) -> int:
    """Dot product of whole numbers below 2^53, as a Python integer."""
    total = 0
    chunk = 1 << 20
    for start in range(0, a.numel(), chunk):
        x, y = a[start : start + chunk], b[start : start + chunk]
        if float(x.abs() @ y.abs()) < EXACT_INT64:
            total += int((x.long() * y.long()).sum())
        else:
            total += sum(int(p) * int(q) for p, q in zip(x.tolist(), y.tolist(), strict=True))
    return total


@dataclass(frozen=True, eq=False)
class _Wedge:
    """Two sides on one mid part: paths of two edges from the first other part to the second."""

    first: Side
    second: Side

    @property
    def directed(self) -> bool:
        """Return whether edges go from the first part through the mid to the second."""
        return self.first.mid_is_target and not self.second.mid_is_target

    @property
    def taps(self) -> tuple[int, int, int, int]:
        """Return row and column taps of the first, then of the second side."""
        return (*self.first.mask.shape[1:3], *self.second.mask.shape[1:3])


@dataclass(frozen=True, eq=False)
class _AxisClasses:
    """Pairs of positions (of two parts) along one axis, grouped by how they are joined.

    Attributes:
        multiplicity: (classes,) int64, pairs of positions per class.
        bounds: (classes + 1,) int64, where the entries of each class start.
        entries: (entries, 4) int64: wedge, tap of its first side, tap of its second, and how many
            mid positions join the pair by these taps.
        direct: (classes,) int64, tap of the direct block that joins the pair, or -1.
        first_weight, second_weight: (classes, positions) how often a position is in the class.
    """

    multiplicity: np.ndarray
    bounds: np.ndarray
    entries: np.ndarray
    direct: np.ndarray
    first_weight: np.ndarray
    second_weight: np.ndarray

    def of_wedge(self, wedge: int) -> list[np.ndarray]:
        """Return per class the (n, 3) taps and counts of one wedge."""
        return [
            self.entries[start:stop][self.entries[start:stop, 0] == wedge, 1:]
            for start, stop in pairwise(self.bounds)
        ]


@dataclass(frozen=True, eq=False)
class _Forms:
    """The distinct lists of taps by which the classes of an axis use one wedge.

    Attributes:
        lists: (n, 3) first tap, second tap, count; not empty.
        of_class: per class the number of its list, -1 for an empty one.
    """

    lists: list[np.ndarray]
    of_class: list[int]

    @property
    def entries(self) -> int:
        """Return the summed lengths of the lists."""
        return sum(len(form) for form in self.lists)


def _forms(classes: _AxisClasses, wedge: int) -> _Forms:
    numbers: dict[bytes, int] = {}
    lists, of_class = [], []
    for form in classes.of_wedge(wedge):
        if not len(form):
            of_class.append(-1)
            continue
        number = numbers.setdefault(form.tobytes(), len(lists))
        if number == len(lists):
            lists.append(form)
        of_class.append(number)
    return _Forms(lists, of_class)


def _with_forms(classes: _AxisClasses, forms: Mapping[int, _Forms]) -> _AxisClasses:
    """The classes with the entries of some wedges replaced by the number of their form."""
    rows = []
    for k, (start, stop) in enumerate(pairwise(classes.bounds)):
        own = classes.entries[start:stop]
        kept = own[~np.isin(own[:, 0], list(forms))].tolist()
        kept += [[w, f.of_class[k], 0, 1] for w, f in forms.items() if f.of_class[k] >= 0]
        rows.append(kept)
    return replace(
        classes,
        bounds=np.cumsum([0, *(len(kept) for kept in rows)]),
        entries=np.array([entry for kept in rows for entry in kept], np.int64).reshape(-1, 4),
    )


class _Sweep:
    """Sums over the codegrees of all pairs of nodes, pair of parts by pair of parts.

    Attributes:
        between, within: sum of C(codegree, 2) over pairs of nodes of two parts, and over ordered
            pairs of nodes of one part, each node with itself included.
        codegrees_between, codegrees_within: sums of the codegrees of the same pairs.
        on_edges: sum of the codegrees of adjacent nodes: three times the triangles.
        diamonds: sum of C(codegree, 2) of adjacent nodes.
        degree_on_edges: sum of codegree times the degrees of both ends over adjacent nodes.
        two_hop_pairs: as in SubgraphCounts.
    """

    def __init__(self, layer_graph: LayerGraph, degrees: NodeFields, class_bytes: int) -> None:
        self.layer_graph = layer_graph
        self.degrees = degrees
        self.class_bytes = class_bytes
        self.between = 0
        self.within = 0
        self.codegrees_between = 0
        self.codegrees_within = 0
        self.on_edges = 0
        self.diamonds = 0
        self.degree_on_edges = 0
        self.two_hop_pairs = 0
        self._largest = max(int(f.max()) for f in degrees.total)
        self._axis_classes: dict[object, _AxisClasses] = {}
        self._matrices: dict[int, torch.Tensor] = {}
        self._buffer = torch.empty(0)

    def run(self) -> None:
        """Visit every pair of parts with a common neighbour."""
        at_part: dict[int, list[Side]] = defaultdict(list)
        direct: dict[tuple[int, int], Block] = {}
        for block in checked_blocks(self.layer_graph):
            if block.mask.any():
                from_target, from_source = sides(block)
                at_part[block.target].append(from_target)
                at_part[block.source].append(from_source)
                direct[block.source, block.target] = block
        wedges: dict[tuple[int, int], list[_Wedge]] = defaultdict(list)
        for incident in at_part.values():
            for first, second in product(incident, incident):
                shared = max(first.mid_start, second.mid_start) < min(
                    first.mid_stop, second.mid_stop
                )
                if first.other <= second.other and shared:
                    wedges[first.other, second.other].append(_Wedge(first, second))
        for (a, b), pair_wedges in sorted(wedges.items()):
            self._pair(a, b, pair_wedges, direct.get((a, b)))

    def _pair(self, a: int, b: int, wedges: list[_Wedge], direct: Block | None) -> None:
        rows = self._classes(a, b, "rows", wedges, direct)
        columns = self._classes(a, b, "columns", wedges, direct)
        if not rows.multiplicity.size or not columns.multiplicity.size:
            return
        groups = _common_groups(wedges) if direct is None else None
        if groups is None:
            length, width = self.layer_graph.parts[a].channels, self.layer_graph.parts[b].channels
            # Whole groups at a time keep the products of grouped blocks small.
            step = math.lcm(*(w.first.mask.shape[3] for w in wedges if w.first.groups > 1), 1)
            unit = width
        else:
            length, width, step = groups, wedges[0].second.mask.shape[3], 1
            unit = width * wedges[0].first.mask.shape[3]
        forms = self._cheaper_forms(wedges, rows, columns) if groups is None else {}
        if forms:
            rows = _with_forms(rows, {w: f[0] for w, f in forms.items()})
            columns = _with_forms(columns, {w: f[1] for w, f in forms.items()})
        products = sum(math.prod(_slices(w, forms.get(i))) for i, w in enumerate(wedges))
        step *= max(1, self.class_bytes // (4 * products * unit) // step)
        multiplicity = np.outer(rows.multiplicity, columns.multiplicity)
        for start in range(0, length, step):
            chunk = slice(start, min(start + step, length))
            if groups is None:
                batches, channels = 1, chunk.stop - chunk.start
                layout = self._dense_products(wedges, chunk, forms)
                adjacent = _adjacent(direct, chunk, width)
            else:
                batches, channels = chunk.stop - chunk.start, wedges[0].first.mask.shape[3]
                layout = self._grouped_products(wedges, chunk)
                adjacent = _adjacent(None, chunk, width)
            if self._largest**2 * batches * channels * width >= EXACT_INT64:
                raise DataError(
                    f"degrees up to {self._largest} over {channels * width} pairs of channels are "
                    "too large to count exactly; lower class_bytes to count in smaller pieces"
                )
            sums = class_sums(
                self._buffer.numpy(),
                layout,
                np.array([batches, channels, width]),
                rows.bounds,
                rows.entries,
                columns.bounds,
                columns.entries,
                np.array([wedge.directed for wedge in wedges]),
                adjacent,
                rows.direct,
                columns.direct,
            )
            self._add(a, b, multiplicity, sums)
            if direct is not None and sums.on_edges.any():
                self._add_degrees(a, rows.first_weight, columns.first_weight, chunk, sums.first)
                everything = slice(None)
                self._add_degrees(
                    b, rows.second_weight, columns.second_weight, everything, sums.second
                )

    def _add(self, a: int, b: int, multiplicity: np.ndarray, sums: ClassSums) -> None:
        pairs = _weighted_sum(multiplicity, sums.pairs)
        total = _weighted_sum(multiplicity, sums.total)
        if a == b:
            self.within += pairs
            self.codegrees_within += total
        else:
            self.between += pairs
            self.codegrees_between += total
        self.on_edges += _weighted_sum(multiplicity, sums.on_edges)
        self.diamonds += _weighted_sum(multiplicity, sums.pairs_on_edges)
        self.two_hop_pairs += _weighted_sum(multiplicity, sums.hops)

    def _add_degrees(
        self,
        part: int,
        row_weight: np.ndarray,
        column_weight: np.ndarray,
        channels: slice,
        common: np.ndarray,
    ) -> None:
        """Add degree times codegree for one end of every edge.

        `common` holds (row classes, column classes, channels) codegrees summed over the edges that
        one pair of positions of the class has at a channel.
        """
        field = self.degrees.total[part][channels]
        over_columns = np.einsum("crs,ls->lcr", field, column_weight)
        summed = np.einsum("kr,lcr->klc", row_weight, over_columns)
        self.degree_on_edges += _weighted_sum(summed, common)

    def _classes(
        self, a: int, b: int, axis: str, wedges: list[_Wedge], direct: Block | None
    ) -> _AxisClasses:
        size = "height" if axis == "rows" else "width"
        sizes = (getattr(self.layer_graph.parts[a], size), getattr(self.layer_graph.parts[b], size))
        joins = [(getattr(w.first, axis), getattr(w.second, axis)) for w in wedges]
        edges = None if direct is None else getattr(direct, axis).triples
        # Codegrees are symmetric: within a part it is enough to meet each pair of rows once.
        fold = a == b and axis == "rows"
        key = (
            sizes,
            fold,
            tuple((first.tobytes(), second.tobytes()) for first, second in joins),
            None if edges is None else edges.tobytes(),
        )
        if key not in self._axis_classes:
            self._axis_classes[key] = _axis_classes(sizes, joins, edges, fold)
        return self._axis_classes[key]

    def _matrix(self, side: Side) -> torch.Tensor:
        """(groups, row taps, column taps, other, mid) float32 of a side."""
        if id(side) in self._matrices:
            return self._matrices[id(side)]
        matrix = torch.from_numpy(np.ascontiguousarray(side.mask)).float()
        if matrix.numel() * 16 < self.class_bytes:
            self._matrices[id(side)] = matrix
        return matrix

    def _reserved(self, shapes: list[tuple[int, ...]]) -> list[torch.Tensor]:
        """One view of the buffer per shape, one after the other."""
        sizes = [math.prod(shape) for shape in shapes]
        if self._buffer.numel() < sum(sizes):
            self._buffer = torch.empty(sum(sizes))
        pieces = self._buffer[: sum(sizes)].split(sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def _grouped_products(self, wedges: list[_Wedge], chunk: slice) -> np.ndarray:
        """Put the products of some groups into the buffer, each group with itself only."""
        factors = [(self._matrix(w.first)[chunk], self._matrix(w.second)[chunk]) for w in wedges]
        shapes = [(*left.shape[:4], *right.shape[1:4]) for left, right in factors]
        for view, (left, right) in zip(self._reserved(shapes), factors, strict=True):
            _multiply_into(view, left, right)
        return _layout(shapes, [(0, 0, shape[3]) for shape in shapes])

    def _cheaper_forms(
        self, wedges: list[_Wedge], rows: _AxisClasses, columns: _AxisClasses
    ) -> dict[int, tuple[_Forms, _Forms]]:
        """Forms of the wedges of which it is cheaper to multiply each form than each pair of taps.

        A kernel as large as the map has many pairs of taps, few of which meet anywhere.
        """
        cheaper = {}
        for i, wedge in enumerate(wedges):
            if wedge.first.groups > 1 or wedge.second.groups > 1 or max(wedge.taps) == 1:
                continue
            forms = _forms(rows, i), _forms(columns, i)
            channels = math.prod(wedge.first.mask.shape[3:]) * wedge.second.mask.shape[3]
            calls = forms[0].entries * len(forms[1].lists)
            cost = forms[0].entries * forms[1].entries * channels + calls * _CALL
            if cost < math.prod(wedge.taps) * channels:
                cheaper[i] = forms
        return cheaper

    def _dense_products(
        self, wedges: list[_Wedge], chunk: slice, forms: Mapping[int, tuple[_Forms, _Forms]]
    ) -> np.ndarray:
        """Put the products for some channels of the first part into the buffer."""
        shapes, places, own = [], [], []
        for i, wedge in enumerate(wedges):
            first, second = wedge.first, wedge.second
            start, stop = max(chunk.start, first.other_start), min(chunk.stop, first.other_stop)
            length = max(stop - start, 0)
            own.append(slice(start - first.other_start, start - first.other_start + length))
            slices = _slices(wedge, forms.get(i))
            if _matched(wedge, own[-1]):
                size, width = first.mask.shape[3], second.mask.shape[3]
                group = own[-1].start // size
                shapes.append((length // size, *slices[:2], size, *slices[2:], width))
                place = second.other_start + group * width
            else:
                width = second.other_stop - second.other_start
                shapes.append((1, *slices[:2], length, *slices[2:], width))
                place = second.other_start
            places.append((start - chunk.start, place, length))
        for i, view in enumerate(self._reserved(shapes)):
            if view.numel() and i in forms:
                self._multiply_forms(wedges[i], own[i], forms[i], view)
            elif view.numel():
                self._multiply(wedges[i], own[i], view)
        # A part of no channels has no groups either; any positive size will do.
        shapes = [(*s[:3], max(s[3], 1), *s[4:]) for s in shapes]
        return _layout(shapes, places)

    def _multiply_forms(
        self, wedge: _Wedge, channels: slice, forms: tuple[_Forms, _Forms], view: torch.Tensor
    ) -> None:
        """Per pair of forms the sum of the products of their taps."""
        mids, second_mids = _shared_mids(wedge)
        left = self._matrix(wedge.first)[0, :, :, channels, mids]
        right = self._matrix(wedge.second)[0, ..., second_mids]
        view.zero_()
        for n, columns in enumerate(forms[1].lists):
            taps = torch.from_numpy(columns.T.copy())
            for m, rows in enumerate(forms[0].lists):
                for first_tap, second_tap, count in rows.tolist():
                    a = left[first_tap][taps[0]] * (count * taps[2])[:, None, None].float()
                    b = right[second_tap][taps[1]]
                    view[0, m, n, :, 0, 0].addmm_(
                        a.movedim(0, 1).flatten(1), b.movedim(0, 1).flatten(1).mT
                    )

    def _multiply(self, wedge: _Wedge, channels: slice, view: torch.Tensor) -> None:
        """Products over the shared mid channels, for some other channels of the first side."""
        first, second = wedge.first, wedge.second
        left, right = self._matrix(first), self._matrix(second)
        mids, second_mids = _shared_mids(wedge)
        shared = mids.stop - mids.start
        size = first.mask.shape[3]
        whole_groups = channels.start % size == 0 and channels.stop % size == 0
        some = slice(channels.start // size, channels.stop // size)
        if _matched(wedge, channels):
            _multiply_into(view, left[some], right[some])
        elif (
            first.groups > 1
            and second.groups == 1
            and whole_groups
            and shared == first.mid_stop - first.mid_start
        ):
            right = right[0, ..., second_mids].unflatten(-1, (first.groups, -1))
            products = _product(left[some], right.movedim(-2, 0)[some])
            view.copy_(products.permute(1, 2, 0, 3, 4, 5, 6).flatten(2, 3)[None])
        elif (
            first.groups == 1 and second.groups > 1 and shared == second.mid_stop - second.mid_start
        ):
            left = left[0, :, :, channels, mids].unflatten(-1, (second.groups, -1))
            products = _product(left.movedim(-2, 0), right)
            view.copy_(products.permute(1, 2, 3, 4, 5, 0, 6).flatten(5, 6)[None])
        else:
            left = _scattered(left)[None, :, :, channels, mids]
            right = _scattered(right)[None, ..., second_mids]
            _multiply_into(view, left, right)


def _slices(wedge: _Wedge, forms: tuple[_Forms, _Forms] | None) -> tuple[int, int, int, int]:
    """How many products a wedge has along each axis and side."""
    return wedge.taps if forms is None else (len(forms[0].lists), len(forms[1].lists), 1, 1)


def _shared_mids(wedge: _Wedge) -> tuple[slice, slice]:
    """The mid channels that both sides have, as each side counts them."""
    first, second = wedge.first, wedge.second
    low, high = max(first.mid_start, second.mid_start), min(first.mid_stop, second.mid_stop)
    return (
        slice(low - first.mid_start, high - first.mid_start),
        slice(low - second.mid_start, high - second.mid_start),
    )


def _matched(wedge: _Wedge, channels: slice) -> bool:
    """Whether groups meet their like only, and the channels are whole groups."""
    first, second = wedge.first, wedge.second
    size = first.mask.shape[3]
    return (
        first.groups == second.groups > 1
        and first.mid_start == second.mid_start
        and first.mask.shape[4] == second.mask.shape[4]
        and channels.start % size == 0
        and channels.stop % size == 0
    )


def _adjacent(direct: Block | None, channels: slice, width: int) -> np.ndarray:
    """(row taps + 1, column taps + 1, channels of a, channels of b) bool mask of a direct block.

    The last tap of each axis joins nothing: it stands for positions that are not joined. Without
    direct block the array is empty.
    """
    if direct is None:
        return np.zeros((0, 0, 0, 0), bool)
    mask = without_groups(direct.mask, direct.groups)
    length = channels.stop - channels.start
    adjacent = np.zeros((mask.shape[2] + 1, mask.shape[3] + 1, length, width), bool)
    start = max(channels.start, direct.source_offset)
    stop = min(channels.stop, direct.source_offset + mask.shape[1])
    if start < stop:
        own = mask[:, start - direct.source_offset : stop - direct.source_offset]
        outputs = slice(direct.target_offset, direct.target_offset + mask.shape[0])
        place = slice(start - channels.start, stop - channels.start)
        adjacent[:-1, :-1, place, outputs] = own.transpose(2, 3, 1, 0)
    return adjacent


def _layout(shapes: list[tuple[int, ...]], places: list[tuple[int, int, int]]) -> np.ndarray:
    """(wedges, 10) int64: start in the buffer, the shape without batch, places and extent."""
    starts = np.cumsum([0, *(math.prod(shape) for shape in shapes[:-1])])
    return np.array(
        [[start, *s[1:], *p] for start, s, p in zip(starts, shapes, places, strict=True)], np.int64
    )


def _axis_classes(
    sizes: tuple[int, int],
    joins: list[tuple[np.ndarray, np.ndarray]],
    direct: np.ndarray | None,
    fold: bool,
) -> _AxisClasses:
    """Group the pairs of positions of two parts by the taps of all wedges and the direct block.

    With `fold` pairs in descending order are left out and those in ascending order count twice.
    """
    pairs, wedge, first_tap, second_tap = [], [], [], []
    for k, (first, second) in enumerate(joins):
        i, j = _join_on_middle(first, second)
        if fold:
            ascending = first[i, 0] <= second[j, 0]
            i, j = i[ascending], j[ascending]
        pairs.append(first[i, 0].astype(np.int64) * sizes[1] + second[j, 0])
        wedge.append(np.full(i.size, k))
        first_tap.append(first[i, 2])
        second_tap.append(second[j, 2])
    columns = [np.concatenate(c).astype(np.int64) for c in (pairs, wedge, first_tap, second_tap)]
    rows, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
    entries = np.concatenate([rows[:, 1:], counts[:, None]], axis=1)
    present, bounds = np.unique(rows[:, 0], return_index=True)
    bounds = [*bounds.tolist(), len(rows)]
    tap_of = np.full(present.size, -1, np.int64)
    if direct is not None:
        joined = direct[:, 0].astype(np.int64) * sizes[1] + direct[:, 1]
        order = np.argsort(joined)
        where = np.searchsorted(joined, present, sorter=order)
        where = order[np.minimum(where, joined.size - 1)]
        found = joined[where] == present
        tap_of[found] = direct[where[found], 2]
    class_of: dict[tuple[bytes, int], int] = {}
    member = np.empty(present.size, np.int64)
    for k, (start, stop) in enumerate(pairwise(bounds)):
        form = (entries[start:stop].tobytes(), int(tap_of[k]))
        member[k] = class_of.setdefault(form, len(class_of))
    forms = [np.frombuffer(form, np.int64).reshape(-1, 4) for form, _ in class_of]
    first_position, second_position = np.divmod(present, sizes[1])
    multiplicity = np.zeros(len(forms), np.int64)
    twice = fold & (first_position < second_position)
    np.add.at(multiplicity, member, np.where(twice, 2, 1))
    first_weight = np.zeros((len(forms), sizes[0]), np.int64)
    second_weight = np.zeros((len(forms), sizes[1]), np.int64)
    np.add.at(first_weight, (member, first_position), 1)
    np.add.at(second_weight, (member, second_position), 1)
    return _AxisClasses(
        multiplicity,
        np.cumsum([0, *(len(form) for form in forms)]),
        np.concatenate([*forms, np.zeros((0, 4), np.int64)]),
        np.array([tap for _, tap in class_of], np.int64),
        first_weight,
        second_weight,
    )


def _join_on_middle(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of triples with the same mid position."""
    order = np.argsort(second[:, 1], kind="stable")
    middle = second[order, 1]
    start = np.searchsorted(middle, first[:, 1], side="left")
    count = np.searchsorted(middle, first[:, 1], side="right") - start
    i = np.repeat(np.arange(len(first)), count)
    within = np.arange(i.size) - np.repeat(np.cumsum(count) - count, count)
    return i, order[np.repeat(start, count) + within]


def _common_groups(wedges: list[_Wedge]) -> int | None:
    """Number of groups if all wedges lead from group t to group t only, else None."""

    def pattern(wedge: _Wedge) -> tuple[int, ...]:
        first, second = wedge.first, wedge.second
        return (
            first.other_start,
            second.other_start,
            first.groups,
            first.mask.shape[3],
            second.mask.shape[3],
        )

    first = wedges[0]
    matched = all(
        w.first.groups == w.second.groups > 1
        and w.first.mid_start == w.second.mid_start
        and w.first.mask.shape[4] == w.second.mask.shape[4]
        and pattern(w) == pattern(first)
        for w in wedges
    )
    return first.first.groups if matched else None


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Products over the mid channels of every pair of taps.

    Args:
        left, right: (batch, row taps, column taps, other, mid).

    Returns:
        (batch, taps and other of left, taps and other of right).
    """
    view = torch.empty((*left.shape[:4], *right.shape[1:4]))
    _multiply_into(view, left, right)
    return view


def _multiply_into(view: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    a = left.reshape(left.shape[0], -1, left.shape[4])
    b = right.reshape(right.shape[0], -1, right.shape[4]).mT
    torch.bmm(a, b, out=view.view(a.shape[0], a.shape[1], b.shape[2]))


def _scattered(matrix: torch.Tensor) -> torch.Tensor:
    """(row taps, column taps, other, mid) with the groups on the diagonal."""
    if matrix.shape[0] == 1:
        return matrix[0]
    blocks = matrix.movedim(0, -1)
    return torch.diag_embed(blocks, dim1=2, dim2=4).flatten(4, 5).flatten(2, 3)


def _weighted_sum(multiplicity: np.ndarray, values: np.ndarray) -> int:
    """Sum of products of whole numbers, as a Python integer."""
    if float(multiplicity.ravel().astype(np.float64) @ values.ravel()) < EXACT_INT64:
        return int(np.vdot(multiplicity, values))
    pairs = zip(multiplicity.ravel().tolist(), values.ravel().tolist(), strict=True)
    return sum(m * v for m, v in pairs)


def _pattern(adjacency: sparse.csr_array) -> sparse.csr_array:
    matrix = sparse.csr_array(adjacency, copy=True)
    rows, columns = sizes(matrix)
    if rows != columns:
        raise DataError(f"the adjacency matrix is {(rows, columns)}, not square")
    matrix.sum_duplicates()
    matrix.data = np.ones(matrix.nnz, np.int64)
    if matrix.diagonal().any():
        raise DataError("a node is joined to itself; these counts are for graphs without loops")
    return matrix


def _two_hop_pairs(directed: sparse.csr_array) -> int:
    reached: Any = directed @ directed
    return reached.nnz - reached.multiply(directed).nnz - int((reached.diagonal() > 0).sum())


def _cliques(symmetric: sparse.csr_array, row: np.ndarray, column: np.ndarray) -> int:
    """Sets of four mutually adjacent nodes, from the edges with two common neighbours or more."""
    neighbours = [
        set(symmetric.indices[s:e].tolist())
        for s, e in zip(symmetric.indptr[:-1], symmetric.indptr[1:], strict=True)
    ]
    six_fold = 0
    for u, v in zip(row.tolist(), column.tolist(), strict=True):
        common = neighbours[u] & neighbours[v]
        six_fold += sum(len(neighbours[w] & common) for w in common)
    return six_fold // 12
