"""Claim: Robinson-Foulds from Newick text is 4 to 8 times as fast as DendroPy's on trees of 10 to
100 leaves; exact triplets are twice as fast as enumeration at 10 leaves, 30 times or more at 100.

Each round runs ours and the alternative in turn, in one process, on the same random pairs, and
checks that the results are equal. Both sides start from Newick text, as a run does; a second line
leaves DendroPy's parsing out. No two trees are equal, so our cache of equal trees never helps.
Times are CPU time.

Usage: python benchmarks/tree_distances.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable

import numpy as np
from records import machine, ratios, record, spread

from espalier.hierarchy.distances import MEASURES, compare_trees
from espalier.hierarchy.tree_pairs import TreePair
from espalier.hierarchy.trees import Tree, parse_newick, random_binary_tree, yule_tree

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dendropy
    from dendropy.calculate import treecompare


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Return the CPU seconds that a call takes, and its result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def enumerated_triplets(truth: Tree, observed: Tree) -> int:
    """Triplets not resolved alike, one by one, from tables of lowest common ancestors."""
    tables = []
    for tree in (truth, observed):
        depth = [[0] * tree.num_leaves for _ in range(tree.num_leaves)]
        size = tree.size.tolist()
        # A cluster's bits in order of size: the last one written is the smallest around a pair.
        for node in sorted(tree.internal.tolist(), key=lambda node: -size[node]):
            leaves = [i for i in range(tree.num_leaves) if tree.node_bits[node] >> i & 1]
            for i, j in itertools.permutations(leaves, 2):
                depth[i][j] = int(tree.depth[node])
        tables.append(depth)
    different = 0
    for a, b, c in itertools.combinations(range(truth.num_leaves), 3):
        shapes = []
        for depth in tables:
            ab, ac, bc = depth[a][b], depth[a][c], depth[b][c]
            shapes.append((ab > ac, ac > ab, bc > ab))
        different += shapes[0] != shapes[1]
    return different


def compare_rf(leaves: int, pairs: int, rounds: int) -> None:
    """Time Robinson-Foulds distances against DendroPy."""
    generator = np.random.default_rng(leaves)
    names = [f"t{i}" for i in range(leaves)]
    truth = yule_tree(names, generator).newick()
    texts = [random_binary_tree(names, generator).newick() for _ in range(pairs)]

    def theirs_parse() -> list[dendropy.Tree]:
        space = dendropy.TaxonNamespace()
        return [
            dendropy.Tree.get(
                data=text, schema="newick", taxon_namespace=space, rooting="force-unrooted"
            )
            for text in [truth, *texts]
        ]

    def theirs_compare(trees: list[dendropy.Tree]) -> list[int]:
        reference = trees[0]
        return [treecompare.symmetric_difference(reference, tree) for tree in trees[1:]]

    compare_ratios, ours_times, theirs_times = [], [], []
    for _ in range(rounds):
        ours_s, table = timed(lambda: compare_trees(texts, truth, measures=["rf"]))
        parse_s, trees = timed(theirs_parse)
        theirs_s, values = timed(lambda trees=trees: theirs_compare(trees))
        assert table["rf"].tolist() == values
        compare_ratios.append(theirs_s / ours_s)
        ours_times.append(ours_s / pairs * 1e6)
        theirs_times.append((parse_s + theirs_s) / pairs * 1e6)
    report(f"RF, {leaves} leaves, parsing included", pairs, ours_times, theirs_times, "DendroPy")
    print(f"    DendroPy without its parsing against ours with it: {spread(compare_ratios)}")


def compare_triplets(leaves: int, pairs: int, rounds: int) -> None:
    """Time triplet distances against enumeration."""
    generator = np.random.default_rng(leaves)
    names = [f"t{i}" for i in range(leaves)]
    truth = yule_tree(names, generator).newick()
    texts = [random_binary_tree(names, generator).newick() for _ in range(pairs)]
    ours_times, theirs_times = [], []
    for _ in range(rounds):
        ours_s, table = timed(lambda: compare_trees(texts, truth, measures=["triplet_distance"]))
        theirs_s, values = timed(
            lambda: [
                enumerated_triplets(
                    parse_newick(truth), parse_newick(text, parse_newick(truth).leaves)
                )
                for text in texts
            ]
        )
        assert table["triplet_distance"].tolist() == values
        ours_times.append(ours_s / pairs * 1e6)
        theirs_times.append(theirs_s / pairs * 1e6)
    report(f"triplets, {leaves} leaves", pairs, ours_times, theirs_times, "enumeration")


def all_measures(leaves: int, pairs: int, rounds: int) -> None:
    """Time every measure together."""
    generator = np.random.default_rng(leaves)
    names = [f"t{i}" for i in range(leaves)]
    truth = yule_tree(names, generator)
    texts = [random_binary_tree(names, generator).newick() for _ in range(pairs)]
    times = [
        timed(lambda: compare_trees(texts, truth, rooted="both"))[0] / pairs * 1e3
        for _ in range(rounds)
    ]
    print(
        f"all {len(MEASURES)} measures, {leaves} leaves, both rootings: {spread(times)} ms a pair"
    )


def large_tree(leaves: int) -> None:
    """Time each part on one pair of large trees."""
    generator = np.random.default_rng(0)
    names = [f"t{i}" for i in range(leaves)]
    truth, observed = yule_tree(names, generator), random_binary_tree(names, generator)
    parts: dict[str, Callable[[TreePair], object]] = {
        "overlap table": lambda pair: pair.overlap,
        "RF": lambda pair: pair.robinson_foulds(),
        "clustering information": lambda pair: pair.clustering_information(),
        "matching cluster": lambda pair: pair.matching_distance(),
        "hierarchical information": lambda pair: pair.hierarchical_information(),
        "triplets": lambda pair: pair.triplets,
        "quartets": lambda pair: pair.quartets,
    }
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(3):
        pair = TreePair(observed, truth)
        for name, part in parts.items():
            best[name] = min(best[name], timed(lambda part=part, pair=pair: part(pair))[0])
    shown = ", ".join(f"{name} {seconds:.3f}" for name, seconds in best.items())
    print(f"one pair of {leaves} leaves, seconds beyond the overlap table, best of 3: {shown}")


def report(what: str, pairs: int, ours: list[float], theirs: list[float], alternative: str) -> None:
    """Print one comparison, times per pair."""
    print(
        f"{what}: ours {spread(ours)} us, alternative {spread(theirs)} us, "
        f"ratio {spread(ratios(ours, theirs))}, {pairs} pairs"
    )
    record(what, ours, theirs, "CPU us a pair", alternative)


def main() -> None:
    """Print every comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{machine('numpy', 'dendropy')}; {rounds} rounds, median (least to most)")
    for leaves in (10, 20, 100):
        compare_rf(leaves, 200 if leaves < 100 else 40, rounds)
    compare_triplets(10, 100, rounds)
    compare_triplets(20, 30, rounds)
    compare_triplets(100, 2, rounds)
    for leaves in (10, 20):
        all_measures(leaves, 200, rounds)
    large_tree(1000)


if __name__ == "__main__":
    main()
