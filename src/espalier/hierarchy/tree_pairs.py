"""What two trees over the same leaves share: splits, triplets, quartets, information, matchings.

`TreePair` gives the raw quantities behind the measures of `espalier.hierarchy.distances`. All of
them are exact and follow from one table: how many leaves each node of one tree shares with each
node of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Literal, NamedTuple

import numpy as np

from espalier.errors import unknown_name
from espalier.hierarchy.trees import Tree, check_same_leaves

CellConvention = Literal["cell", "singleton"]
Normaliser = Literal["max", "mean", "min", "geometric"]

# Entropies are sums of a few hundred terms of order one; this is far above their rounding.
_ROUNDING = 1e-12
# Bounds the temporary tables of the quartet count (entries, 8 bytes each).
_BLOCK_ENTRIES = 400_000
# Above this many branches a matrix product beats the sum over pairs of branches.
_WIDE_NODE = 24


class SplitCounts(NamedTuple):
    """Splits (or clusters) that two trees share or have alone."""

    shared: int
    missing: int
    extra: int

    @property
    def distance(self) -> int:
        """Robinson-Foulds distance (Robinson and Foulds 1981)."""
        return self.missing + self.extra

    @property
    def truth(self) -> int:
        """Splits of the truth."""
        return self.shared + self.missing

    @property
    def observed(self) -> int:
        """Splits of the observed tree."""
        return self.shared + self.extra

    @property
    def normalised_distance(self) -> float:
        """Distance over the splits of both trees; 0 for two trees without splits."""
        return distance_ratio(self.distance, self.truth + self.observed)

    @property
    def recall(self) -> float:
        """Share of the true splits found; NaN if there are none."""
        return _ratio(self.shared, self.truth)

    @property
    def precision(self) -> float:
        """Share of the observed splits that are true; NaN if there are none."""
        return _ratio(self.shared, self.observed)


class Agreement(NamedTuple):
    """How two trees resolve each triplet (or quartet) of leaves; the five counts add up to all."""

    same: int
    different: int
    truth_only: int
    observed_only: int
    unresolved: int

    @property
    def total(self) -> int:
        """All triplets or quartets of the leaves."""
        return sum(self)

    @property
    def distance(self) -> int:
        """Those not resolved alike; unresolved in both counts as alike (tqDist's distance)."""
        return self.different + self.truth_only + self.observed_only

    @property
    def half_distance(self) -> float:
        """Parametric distance with p = 1/2 (Bansal, Dong and Fernandez-Baca 2011)."""
        return self.different + (self.truth_only + self.observed_only) / 2

    @property
    def normalised_distance(self) -> float:
        """Distance over all triplets or quartets; 0 where the leaves are too few for any."""
        return distance_ratio(self.distance, self.total)

    @property
    def recall(self) -> float:
        """Share of what the truth resolves that is resolved alike; NaN for a star as truth."""
        return _ratio(self.same, self.same + self.different + self.truth_only)

    @property
    def precision(self) -> float:
        """Share of what the observed tree resolves that is true; NaN for an observed star."""
        return _ratio(self.same, self.same + self.different + self.observed_only)

    @property
    def symmetric_difference(self) -> float:
        """Resolved statements of one tree only, over the resolved statements of both."""
        alone = 2 * self.different + self.truth_only + self.observed_only
        return distance_ratio(alone, alone + 2 * self.same)


class ClusteringInformation(NamedTuple):
    """Matched information of two sets of splits, in bits (Smith 2020)."""

    mutual: float
    truth_entropy: float
    observed_entropy: float
    distance: float

    @property
    def normalised_distance(self) -> float:
        """Distance over the sum of both entropies; 0 for two trees without splits."""
        return distance_ratio(self.distance, self.truth_entropy + self.observed_entropy)

    @property
    def recall(self) -> float:
        """Mutual information over the entropy of the truth; NaN for a star as truth."""
        return _ratio(self.mutual, self.truth_entropy)

    def normalised(self, by: Normaliser = "mean") -> float:
        """Mutual information over a mean of the entropies: 1 for two stars, else NaN for 0/0."""
        return _similarity_ratio(self.mutual, self.truth_entropy, self.observed_entropy, by)


class HierarchicalInformation(NamedTuple):
    """Hierarchical mutual information in bits (Perotti, Tessone and Caldarelli 2015)."""

    mutual: float
    truth_entropy: float
    observed_entropy: float
    expected: float

    @property
    def variation(self) -> float:
        """Hierarchical variation of information; not a metric (Perotti et al. 2020)."""
        return self.truth_entropy + self.observed_entropy - 2 * self.mutual

    def normalised(self, by: Normaliser = "max") -> float:
        """Mutual information over a mean of the entropies: 1 for two stars, else NaN for 0/0."""
        return _similarity_ratio(self.mutual, self.truth_entropy, self.observed_entropy, by)

    def adjusted(self, by: Normaliser = "max") -> float:
        """(mutual - expected) / (mean - expected), with the exact mean over relabelled trees.

        0 means no better than chance. Two stars are identical and score 1.
        """
        return _similarity_ratio(
            self.mutual, self.truth_entropy, self.observed_entropy, by, self.expected
        )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > _ROUNDING else math.nan


def distance_ratio(part: float, whole: float) -> float:
    """Return part / whole; 0 where the whole is 0 but for rounding: nothing differs."""
    return part / whole if whole > _ROUNDING else 0.0


_MEANS: dict[str, Callable[[float, float], float]] = {
    "max": max,
    "mean": lambda a, b: (a + b) / 2,
    "min": min,
    "geometric": lambda a, b: math.sqrt(a * b),
}


def _similarity_ratio(
    mutual: float, first: float, second: float, by: str, expected: float = 0.0
) -> float:
    if by not in _MEANS:
        raise unknown_name("normaliser", by, _MEANS)
    room = _MEANS[by](first, second) - expected
    if room <= _ROUNDING:
        return 1.0 if abs(first - second) <= _ROUNDING else math.nan
    above = mutual - expected
    if abs(above) <= _ROUNDING:
        return 0.0
    return 1.0 if abs(above - room) <= _ROUNDING else above / room


class _Branches(NamedTuple):
    """The branches around every inner node: its children and, below the root, everything else."""

    node: np.ndarray
    outside: np.ndarray
    size: np.ndarray
    group: np.ndarray
    offsets: np.ndarray


class TreeTables:
    """What the measures need of one tree alone, worked out once."""

    def __init__(self, tree: Tree):
        self.tree = tree
        self.n = tree.num_leaves
        self.depth = tree.depth[tree.internal]

    def sets(self, rooted: bool) -> dict[int, int]:
        """Return the clusters (rooted) or splits as bits of leaves, each with its node."""
        return self.tree.cluster_nodes if rooted else self.tree.split_nodes

    @cached_property
    def triplets_resolved(self) -> int:
        """Number of triplets of leaves that the tree resolves."""
        size = self.tree.size
        pairs = size * (size - 1) // 2
        joined = pairs[self.tree.internal] - np.add.reduceat(pairs[1:], self.tree.child_offsets)
        return int(joined @ (self.n - size[self.tree.internal]))

    @cached_property
    def branches(self) -> _Branches:
        """The branches around every inner node."""
        tree = self.tree
        offsets = tree.child_offsets + np.arange(len(tree.internal)) - 1
        offsets[0] = 0
        count = tree.degree + 1
        count[0] -= 1
        group = np.repeat(np.arange(len(count)), count)
        outside = np.zeros(len(group), bool)
        outside[offsets[1:] + tree.degree[1:]] = True
        node = np.empty(len(group), np.int64)
        node[~outside] = np.arange(1, tree.num_nodes)
        node[outside] = tree.internal[1:]
        size = np.where(outside, self.n - tree.size[node], tree.size[node])
        return _Branches(node, outside, size, group, offsets)

    @cached_property
    def quartets_resolved(self) -> int:
        """Number of quartets of leaves that the tree resolves."""
        branches = self.branches
        size = branches.size
        squares = np.add.reduceat(size * size, branches.offsets)[branches.group]
        others = ((self.n - size) ** 2 - squares + size * size) // 2
        return int((size * (size - 1) // 2) @ others) // 2

    @cached_property
    def _clustering_entropies(self) -> tuple[float, float]:
        unrooted, rooted = (
            _split_entropy(self.tree, self.sets(form).values(), form) for form in (False, True)
        )
        return unrooted, rooted

    def clustering_entropy(self, rooted: bool) -> float:
        """Return the sum of the entropies of the clusters (rooted) or splits, in bits."""
        return self._clustering_entropies[rooted]

    @cached_property
    def _has_inner_child(self) -> np.ndarray:
        inner = (self.tree.leaf[1:] < 0).astype(np.int64)
        return np.add.reduceat(inner, self.tree.child_offsets) > 0

    def nonterminal(self, convention: str) -> np.ndarray:
        """Which inner nodes the hierarchical information descends from."""
        if convention == "cell":
            return self._has_inner_child
        if convention == "singleton":
            return np.ones(len(self.tree.internal), bool)
        raise unknown_name("leaf convention", convention, ("cell", "singleton"))

    @cached_property
    def _entropy_drops(self) -> np.ndarray:
        terms = _xlog2x(self.n)[self.tree.size]
        return terms[self.tree.internal] - np.add.reduceat(terms[1:], self.tree.child_offsets)

    def hierarchical_entropy(self, convention: str) -> float:
        """Return the tree's hierarchical information about itself, in bits."""
        return float(self._entropy_drops[self.nonterminal(convention)].sum()) / self.n


class TreePair:
    """The raw quantities behind every measure, for one observed tree and one truth.

    Trees are taken as they are: nodes with a single child matter to the hierarchical mutual
    information, which goes level by level, and to nothing else.

    Args:
        observed: a tree.
        truth: a tree over the same leaf names.

    Raises:
        DataError: the leaves differ; the message lists missing and extra names.
    """

    def __init__(self, observed: Tree, truth: Tree | TreeTables):
        self._truth = truth if isinstance(truth, TreeTables) else TreeTables(truth)
        if observed.leaves != self._truth.tree.leaves:
            truth_leaves = self._truth.tree.leaves
            check_same_leaves(observed.leaves, truth_leaves, "the observed tree", "the truth")
            observed = observed.with_leaf_order(truth_leaves)
        self._observed = TreeTables(observed)
        self.truth = self._truth.tree
        self.observed = observed
        self.n = self.truth.num_leaves

    @cached_property
    def overlap(self) -> np.ndarray:
        """(nodes of truth, nodes of observed) int64: leaves below both nodes."""
        # In the truth's depth-first order its nodes are intervals: count by running sums.
        truth, observed = self.truth, self.observed
        place = observed.leaf_position[truth.leaf_order][:, None]
        inside = (place >= observed.start) & (place < observed.start + observed.size)
        before = np.zeros((self.n + 1, observed.num_nodes), np.int64)
        np.cumsum(inside, axis=0, out=before[1:])
        shared = before[truth.start + truth.size]
        shared -= before[truth.start]
        return shared

    def robinson_foulds(self, rooted: bool = False) -> SplitCounts:
        """Count shared, missing and extra splits, or clusters if rooted."""
        truth, observed = self._truth.sets(rooted).keys(), self._observed.sets(rooted).keys()
        shared = len(truth & observed)
        return SplitCounts(shared, len(truth) - shared, len(observed) - shared)

    def _unshared(self, rooted: bool) -> tuple[np.ndarray, np.ndarray]:
        """Nodes of the splits in one tree only. An optimal matching pairs equal splits first,
        because both costs used here obey the triangle inequality.
        """
        truth, observed = self._truth.sets(rooted), self._observed.sets(rooted)
        first = np.array([node for bits, node in truth.items() if bits not in observed], int)
        second = np.array([node for bits, node in observed.items() if bits not in truth], int)
        return first, second

    def clustering_information(self, rooted: bool = False) -> ClusteringInformation:
        """Return mutual clustering information and its distance (Smith 2020, equations 5 to 8).

        Rooted: each cluster is read as a split of n+1 leaves, one hung on the root.
        """
        first, second = self._unshared(rooted)
        leaves = self.n + rooted
        mutual = 0.0
        if len(first) and len(second):
            x = _xlog2x(leaves)
            a, b = self.truth.size[first][:, None], self.observed.size[second]
            both = self.overlap[first[:, None], second]
            joint = x[both] + x[a - both] + x[b - both] + x[leaves - a - b + both]
            gain = joint - (x[a] + x[leaves - a]) - (x[b] + x[leaves - b]) + x[leaves]
            mutual = max(0.0, _best_total(gain, maximise=True) / leaves)
        truth_rest = _split_entropy(self.truth, first, rooted)
        observed_rest = _split_entropy(self.observed, second, rooted)
        truth, observed = (
            self._truth.clustering_entropy(rooted),
            self._observed.clustering_entropy(rooted),
        )
        distance = max(0.0, truth_rest + observed_rest - 2 * mutual)
        return ClusteringInformation(mutual + truth - truth_rest, truth, observed, distance)

    def matching_distance(
        self, rooted: bool = True, surplus: Literal["padded", "free"] = "padded"
    ) -> int:
        """Return the matching cluster distance, or the matching split distance if not rooted.

        Leaves to move, over the cheapest one-to-one matching (Bogdanowicz and Giaro 2012, 2013).

        Args:
            rooted: match clusters; otherwise splits.
            surplus: "padded": a cluster or split without partner costs its distance to the
                empty one, which makes the distance a metric. "free": it costs nothing, so the
                star is at distance 0 from every tree.
        """
        if surplus not in ("padded", "free"):
            raise unknown_name("surplus rule", surplus, ("padded", "free"))
        first, second = self._unshared(rooted)
        pads = [
            _distance_to_star(tree, nodes, rooted)
            for tree, nodes in ((self.truth, first), (self.observed, second))
        ]
        longer, shorter = (0, 1) if len(first) >= len(second) else (1, 0)
        if surplus == "free":
            pads = [np.zeros_like(pad) for pad in pads]
        total = int(pads[longer].sum())
        if len(pads[shorter]):
            a, b = self.truth.size[first][:, None], self.observed.size[second]
            cost = a + b - 2 * self.overlap[first[:, None], second]
            if not rooted:
                cost = np.minimum(cost, self.n - cost)
            cost = cost if longer == 0 else cost.T
            total += round(_best_total(cost - pads[longer][:, None], maximise=False))
        return total

    def matching_distance_bound(self, rooted: bool = True) -> int:
        """Return the padded matching distances of both trees to the star, added up."""
        return sum(
            int(_distance_to_star(tables.tree, list(tables.sets(rooted).values()), rooted).sum())
            for tables in (self._truth, self._observed)
        )

    def _child_difference(self, table: np.ndarray) -> np.ndarray:
        """Take from each pair of inner nodes the entries of their children, on both sides."""
        truth, observed = self.truth, self.observed
        rows = table[truth.internal] - np.add.reduceat(table[1:], truth.child_offsets, axis=0)
        return rows[:, observed.internal] - np.add.reduceat(
            rows[:, 1:], observed.child_offsets, axis=1
        )

    def hierarchical_information(
        self, convention: CellConvention = "cell"
    ) -> HierarchicalInformation:
        """Return the hierarchical mutual information, both entropies and the exact expectation.

        Both trees are walked down level by level (Perotti et al. 2015, equation 5). Multiplied
        out, the recursion is a sum over pairs of nodes at equal depth of terms m log m in their
        overlaps m; under a random relabelling each overlap is hypergeometric, which makes the
        expectation exact.

        Args:
            convention: "cell": a node with leaves only is one undivided cell, as in the
                published code. "singleton": every leaf is its own cell.
        """
        truth, observed = self._truth, self._observed
        together = (truth.depth[:, None] == observed.depth) & (
            truth.nonterminal(convention)[:, None] & observed.nonterminal(convention)
        )
        expected = _expected_xlog2x(self.n, self.truth.size, self.observed.size)
        return HierarchicalInformation(
            max(0.0, float(self._information_terms[together].sum()) / self.n),
            truth.hierarchical_entropy(convention),
            observed.hierarchical_entropy(convention),
            max(0.0, float(self._child_difference(expected)[together].sum()) / self.n),
        )

    @cached_property
    def _information_terms(self) -> np.ndarray:
        return self._child_difference(_xlog2x(self.n)[self.overlap])

    @cached_property
    def triplets(self) -> Agreement:
        """Count how the trees resolve the triplets of leaves; rooted, exact, O(n^2).

        Pairs of leaves are sorted by their lowest common ancestors in both trees (after Critchlow,
        Pearl and Qian 1996); triplets unresolved in both by inclusion and exclusion.
        """
        overlap = self.overlap
        pairs = self._child_difference(overlap * (overlap - 1) // 2)
        truth, observed = self.truth, self.observed
        outside = overlap[truth.internal[:, None], observed.internal]
        outside = outside + (self.n - truth.size[truth.internal])[:, None]
        outside -= observed.size[observed.internal]
        same = int((pairs * outside).sum())
        return _agreement(
            math.comb(self.n, 3),
            same,
            self._truth.triplets_resolved,
            self._observed.triplets_resolved,
            unresolved=self._triplets_unresolved(),
        )

    def _triplets_unresolved(self) -> int:
        # A triplet is unresolved where a node has its leaves below three children; count, for
        # each pair of such nodes, triples in three different rows and columns of the overlaps.
        truth, observed = self.truth, self.observed
        wide = [tree.internal[tree.degree >= 3] for tree in (truth, observed)]
        if not len(wide[0]) or not len(wide[1]):
            return 0
        children, group = [], []
        for tree, nodes in zip((truth, observed), wide, strict=True):
            place = np.full(tree.num_nodes, -1)
            place[nodes] = np.arange(len(nodes))
            above = np.concatenate([[-1], place[tree.parent[1:]]])
            children.append(np.flatnonzero(above >= 0))
            group.append(above[above >= 0])
        total = self.overlap[wide[0][:, None], wide[1]]
        row = self.overlap[children[0][:, None], wide[1]]
        column = self.overlap[wide[0][:, None], children[1]]
        cell = self.overlap[children[0][:, None], children[1]]
        rows, columns = row[:, group[1]], column[group[0]]
        cells = total[group[0]][:, group[1]]
        inner = cell * (cell * (3 * cells + 4 * cell - 6 * rows - 6 * columns) + 6 * rows * columns)
        six = (
            int((total**3).sum())
            + int((row * row * (2 * row - 3 * total[group[0]])).sum())
            + int((column * column * (2 * column - 3 * total[:, group[1]])).sum())
            + int(inner.sum())
        )
        return six // 6

    @cached_property
    def quartets(self) -> Agreement:
        """Count how the trees resolve the quartets of leaves; unrooted, exact.

        A resolved quartet ab|cd is claimed at the two nodes where its paths meet; claims that
        agree and claims that differ are counted from the overlaps of the branches around each
        pair of nodes (after Brodal et al. 2013, written for dense tables).
        """
        same = different = 0
        rows, columns = self._truth.branches, self._observed.branches
        step = max(1, _BLOCK_ENTRIES // len(columns.node))
        edges = np.append(rows.offsets, len(rows.node))
        first = 0
        while first < len(rows.offsets):
            last = max(first + 1, int(np.searchsorted(edges, edges[first] + step, "right")) - 1)
            agreeing, differing = self._quartet_block(slice(first, last), edges, columns)
            same += agreeing
            different += differing
            first = last
        resolved = [tables.quartets_resolved for tables in (self._truth, self._observed)]
        return _agreement(math.comb(self.n, 4), same // 8, *resolved, different=different // 4)

    def _quartet_block(
        self, nodes: slice, edges: np.ndarray, columns: _Branches
    ) -> tuple[int, int]:
        """Return eight times the agreeing and four times the differing claims of some nodes."""
        rows = self._truth.branches
        span = slice(int(edges[nodes.start]), int(edges[nodes.stop]))
        group = rows.group[span] - nodes.start
        offsets = rows.offsets[nodes] - span.start
        r, c = rows.size[span][:, None], columns.size
        # Overlap of branch with branch: x. Names ending in _row and _col are sums over the
        # branches of the other (the same) node: x2_row[k, l] sums x[k, q]^2 over l's node.
        x = self.overlap[rows.node[span][:, None], columns.node]
        beyond = self.observed.size[columns.node]
        x = np.where(rows.outside[span][:, None], beyond - x, x)
        x = np.where(columns.outside, r - x, x)

        def over_columns(table: np.ndarray) -> np.ndarray:
            return np.add.reduceat(table, columns.offsets, axis=1)

        def over_rows(table: np.ndarray) -> np.ndarray:
            return np.add.reduceat(table, offsets, axis=0)

        x2 = x * x
        x2_row_sums = over_columns(x2)
        x2_row = x2_row_sums[:, columns.group]
        x2_col = over_rows(x2)[group]
        x2_all = over_rows(x2_row_sums)[group][:, columns.group]
        xc_row = over_columns(x * c)[:, columns.group]
        xr_col = over_rows(x * r)[group]
        r2 = over_rows(r * r)[group]
        c2 = np.add.reduceat(c * c, columns.offsets)[columns.group]

        rest = self.n - r - c + x
        row_gap, column_gap = r - x, c - x
        pairs = rest * rest - (r2 - 2 * xr_col + x2_col - row_gap * row_gap)
        pairs -= c2 - 2 * xc_row + x2_row - column_gap * column_gap
        pairs += x2_all - x2_row - x2_col + x2
        same = int((x * (x - 1) * pairs).sum())

        claims = rest * row_gap * column_gap
        claims -= (xr_col - x * r) * row_gap + (xc_row - x * c) * column_gap
        claims += (x2_row - x2) * column_gap + (x2_col - x2) * row_gap
        claims += x * (x2 - x2_row - x2_col)
        different = int((x * claims).sum()) + int((x2_row_sums * x2_row_sums).sum())
        different += self._crossed_products(x, group, offsets, columns)
        return same, different

    @staticmethod
    def _crossed_products(
        x: np.ndarray, group: np.ndarray, offsets: np.ndarray, columns: _Branches
    ) -> int:
        """Sum, over pairs of different rows of a node, squared products within each node."""
        counts = np.diff(np.append(offsets, len(group)))
        total = 0
        for begin, count in zip(offsets.tolist(), counts.tolist(), strict=True):
            if count > _WIDE_NODE:
                block = x[begin : begin + count].astype(np.float64)
                ends = [*columns.offsets[1:].tolist(), len(columns.node)]
                for left, right in zip(columns.offsets.tolist(), ends, strict=True):
                    part = block[:, left:right]
                    product = part @ part.T if count <= right - left else part.T @ part
                    squares = (part * part).sum(axis=1)
                    total += round(float((product * product).sum() - (squares * squares).sum()))
        narrow = counts[group] <= _WIDE_NODE
        place = np.arange(len(group)) - offsets[group]
        for shift in range(1, int(counts[counts <= _WIDE_NODE].max(initial=1))):
            upper = np.flatnonzero(narrow & (place + shift < counts[group]))
            products = np.add.reduceat(x[upper] * x[upper + shift], columns.offsets, axis=1)
            total += 2 * int((products * products).sum())
        return total


def _agreement(
    total: int,
    same: int,
    truth: int,
    observed: int,
    different: int | None = None,
    unresolved: int | None = None,
) -> Agreement:
    if different is None:
        assert unresolved is not None
        different = truth + observed + unresolved - total - same
    truth_only, observed_only = truth - same - different, observed - same - different
    rest = total - same - different - truth_only - observed_only
    return Agreement(same, different, truth_only, observed_only, rest)


def _best_total(table: np.ndarray, maximise: bool) -> float:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=maximise)
    return float(table[rows, columns].sum())


def _distance_to_star(tree: Tree, nodes: Sequence[int] | np.ndarray, rooted: bool) -> np.ndarray:
    size = tree.size[np.asarray(nodes, int)]
    return size if rooted else np.minimum(size, tree.num_leaves - size)


def _split_entropy(tree: Tree, nodes: Iterable[int], rooted: bool) -> float:
    leaves = tree.num_leaves + rooted
    size = tree.size[np.fromiter(nodes, int)]
    x = _xlog2x(leaves)
    return float((x[leaves] - x[size] - x[leaves - size]).sum()) / leaves


@lru_cache(maxsize=64)
def _xlog2x(largest: int) -> np.ndarray:
    """Return m log2 m for m = 0 .. largest."""
    m = np.arange(largest + 1, dtype=np.float64)
    return m * np.log2(np.maximum(m, 1))


@lru_cache(maxsize=64)
def _log_factorial(largest: int) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])


def _expected_xlog2x(n: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return E[m log2 m] for the overlap m of random subsets with the given sizes, n in all."""
    if n <= 64:
        return _expected_table(n)[first[:, None], second]
    a, a_place = np.unique(first, return_inverse=True)
    b, b_place = np.unique(second, return_inverse=True)
    return _expected_for(n, a, b)[a_place[:, None], b_place]


@lru_cache(maxsize=64)
def _expected_table(n: int) -> np.ndarray:
    return _expected_for(n, np.arange(n + 1), np.arange(n + 1))


def _expected_for(n: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    log_factorial, x = _log_factorial(n), _xlog2x(n)
    expected = np.zeros((len(first), len(second)))
    b = second[:, None]
    fixed = log_factorial[b] + log_factorial[n - b] - log_factorial[n]
    for row, a in enumerate(first.tolist()):
        m = np.arange(a + 1)
        possible = (m <= b) & (m >= a + b - n)
        # The entries that are not possible are computed at a safe place and then dropped.
        only_b, neither = np.where(possible, b - m, 0), np.where(possible, n - a - b + m, 0)
        log_p = fixed + log_factorial[a] + log_factorial[n - a] - log_factorial[m]
        log_p = log_p - log_factorial[a - m] - log_factorial[only_b] - log_factorial[neither]
        expected[row] = np.where(possible, np.exp(np.where(possible, log_p, 0)) * x[m], 0).sum(1)
    return expected
