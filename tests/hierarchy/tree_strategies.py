"""Random trees with polytomies for the property tests, and slow but obvious counts."""

from __future__ import annotations

import itertools
import math

from hypothesis import strategies as st

from espalier.hierarchy.trees import Tree, tree_from_clusters


@st.composite
def clusters_of(draw, names: list[str]) -> list[list[str]]:
    """A laminar family over the names: groups are joined two to four at a time."""
    groups = [[name] for name in draw(st.permutations(names))]
    clusters = []
    while len(groups) > 1 and draw(st.integers(0, 7)):
        size = min(len(groups), draw(st.integers(2, 4)))
        joined = [name for group in groups[:size] for name in group]
        groups = [*groups[size:], joined]
        clusters.append(joined)
        shift = draw(st.integers(0, len(groups) - 1))
        groups = groups[shift:] + groups[:shift]
    return clusters


@st.composite
def tree_pairs(draw, smallest: int = 2, largest: int = 9) -> tuple[Tree, Tree]:
    names = [f"t{i}" for i in range(draw(st.integers(smallest, largest)))]
    first, second = (tree_from_clusters(draw(clusters_of(names)), names) for _ in range(2))
    return first, second


def resolved_triplets(tree: Tree) -> dict[frozenset[str], frozenset[str]]:
    """The pair that each resolved triplet puts together."""
    found = {}
    for triplet in itertools.combinations(tree.leaves, 3):
        for pair in itertools.combinations(triplet, 2):
            (rest,) = set(triplet) - set(pair)
            if any(set(pair) <= cluster and rest not in cluster for cluster in tree.clusters()):
                found[frozenset(triplet)] = frozenset(pair)
    return found


def resolved_quartets(tree: Tree) -> dict[frozenset[str], frozenset[frozenset[str]]]:
    """The two pairs into which each resolved quartet is split."""
    found = {}
    for quartet in itertools.combinations(tree.leaves, 4):
        for split in tree.splits():
            inside = frozenset(quartet) & split
            if len(inside) == 2:
                found[frozenset(quartet)] = frozenset([inside, frozenset(quartet) - inside])
    return found


def count_agreement(first: dict, second: dict, total: int) -> tuple[int, int, int, int, int]:
    both = first.keys() & second.keys()
    same = sum(first[key] == second[key] for key in both)
    one, two = len(first) - len(both), len(second) - len(both)
    return same, len(both) - same, one, two, total - len(both) - one - two


def children_of(tree: Tree) -> dict[int, list[int]]:
    return {
        node: [child for child, parent in enumerate(tree.parent) if parent == node]
        for node in range(tree.num_nodes)
    }


def recursive_mutual_information(first: Tree, second: Tree, convention: str) -> float:
    """The published recursion, in bits."""
    below = [[set(tree._names(bits)) for bits in tree.node_bits] for tree in (first, second)]
    children = [children_of(tree) for tree in (first, second)]

    def terminal(side: int, node: int) -> bool:
        inner = [c for c in children[side][node] if children[side][c]]
        return not children[side][node] or (convention == "cell" and not inner)

    def x(m: int) -> float:
        return m * math.log2(m) if m else 0.0

    def information(t: int, s: int) -> float:
        n = len(below[0][t] & below[1][s])
        if terminal(0, t) or terminal(1, s) or not n:
            return 0.0
        total = x(n)
        deeper = 0.0
        total -= sum(x(len(below[0][u] & below[1][s])) for u in children[0][t])
        total -= sum(x(len(below[0][t] & below[1][v])) for v in children[1][s])
        for u in children[0][t]:
            for v in children[1][s]:
                shared = len(below[0][u] & below[1][v])
                total += x(shared)
                deeper += shared / n * information(u, v)
        return total / n + deeper

    return information(0, 0)
