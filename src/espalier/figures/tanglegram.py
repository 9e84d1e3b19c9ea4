"""Two class trees face to face: what the network found and the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from espalier.errors import ConfigurationError
from espalier.figures.style import (
    GREY,
    INK,
    OKABE_ITO,
    PAPER,
    TEXT_SIZE,
    frame,
    new_figure,
    styled,
    text_extent,
)
from espalier.hierarchy.distances import tree_distances
from espalier.hierarchy.trees import Tree, check_same_leaves, parse_newick
from espalier.seeds import numpy_generator

_SHARED_COLOUR = OKABE_ITO["bluish green"]
_OWN_COLOUR = OKABE_ITO["vermillion"]
_LEVEL_WIDTH = 0.42  # inches from a node to its parent
_LEAF_HEIGHT = 0.235  # inches from leaf to leaf
_LINK_WIDTH = 1.15  # inches that the links cross
_COUNTS = ("rf", "false_positives", "false_negatives")


@styled
def facing_trees(
    observed_newick: str,
    truth_newick: str,
    *,
    title: str = "Observed and true class tree",
    observed_title: str = "observed",
    truth_title: str = "truth",
) -> Figure:
    """Draw an observed tree facing the true one (a tanglegram), each class joined to itself.

    Children are turned so that few links cross; turning changes no tree. Clusters that both trees
    have are marked, and so are those of one tree alone. The title gives the Robinson-Foulds
    distance in both conventions.

    Args:
        observed_newick: Newick text of the observed tree.
        truth_newick: Newick text of the true tree over the same leaves.
        title: first part of the title.
        observed_title: heading of the left tree.
        truth_title: heading of the right tree.

    Raises:
        DataError: a text is no tree, or the leaves differ (missing and extra ones are listed).

    Source: Petkov (2021), Figures 3 and 4, put face to face.
    """
    observed = parse_newick(observed_newick)
    truth = parse_newick(truth_newick)
    check_same_leaves(observed.leaves, truth.leaves, "the observed tree", "the truth")
    distances = tree_distances(observed, truth, rooted="both", measures=_COUNTS)
    left, right = untangle(observed, truth)
    crossings = count_crossings(left, right)

    figure = new_figure(1.0, 1.0)
    names = max(text_extent(figure, name, TEXT_SIZE)[0] for name in truth.leaves) + 0.1
    depths = [float(tree.depth.max()) * _LEVEL_WIDTH for tree in (observed, truth)]
    inner = _LINK_WIDTH + 2 * names
    width = sum(depths) + inner + 0.3
    height = _LEAF_HEIGHT * (len(left) + 1.6)
    page = max(width, 5.8)
    figure.set_size_inches(page, height)
    axes = figure.subplots()
    axes.set_axis_off()
    # Data units are inches, so that the trees keep their shape whatever their size.
    start = -(page - width) / 2 - depths[0] - 0.15
    axes.set_xlim(start, start + page)
    axes.set_ylim(_LEAF_HEIGHT * (len(left) - 0.2), -1.4 * _LEAF_HEIGHT)

    shared = observed.clusters() & truth.clusters()
    _draw_tree(axes, observed, left, 0.0, -1, shared)
    _draw_tree(axes, truth, right, inner, 1, shared)
    _draw_links(axes, left, right, names, inner)
    for name_list, place, align in ((left, 0.05, "left"), (right, inner - 0.05, "right")):
        for row, name in enumerate(name_list):
            axes.text(place, row * _LEAF_HEIGHT, name, ha=align, va="center", fontsize=TEXT_SIZE)
    for text, place in ((observed_title, -depths[0] / 2), (truth_title, inner + depths[1] / 2)):
        axes.text(
            place, -_LEAF_HEIGHT, text, ha="center", va="center", fontweight="bold",
            fontsize=TEXT_SIZE, color=GREY,
        )  # fmt: skip

    numbers = "; ".join(
        f"{distances[f'rf_{rooting}']:.0f} {rooting} "
        f"({distances[f'false_positives_{rooting}']:.0f} extra, "
        f"{distances[f'false_negatives_{rooting}']:.0f} missing)"
        for rooting in ("unrooted", "rooted")
    )
    found, true = len(observed.clusters()), len(truth.clusters())
    caption = (
        f"{len(shared)} shared cluster{'s' * (len(shared) != 1)}; "
        f"the observed tree has {found}, the truth {true}; "
        f"{len(left)} classes. Children are turned for few crossings ({crossings} left). "
        "Rooted distance: clusters of one tree only; unrooted: splits of one tree only, wherever "
        "the root is."
    )
    handles = [
        Line2D(
            [], [], color=_SHARED_COLOUR, marker="o", linewidth=2, label="cluster in both trees"
        ),
        Line2D(
            [],
            [],
            color=_OWN_COLOUR,
            marker="o",
            markerfacecolor=PAPER,
            linestyle=(0, (3, 1.2)),
            linewidth=1.4,
            label="cluster in this tree only",
        ),
    ]
    frame(figure, f"{title}\nRobinson-Foulds: {numbers}", caption, handles)
    return figure


def untangle(
    observed: Tree, truth: Tree, starts: int = 40, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Return leaf orders of two trees, allowed by them, such that few links cross.

    Each tree is ordered in turn against the other until nothing changes: the children of every
    node by the mean place of their leaves there, then neighbours are swapped while that saves
    crossings. The best of several starts is kept, one from the order of each tree and the others
    from random orders. The optimum is NP-hard.

    Args:
        observed: the left tree.
        truth: the right tree, with the same leaves.
        starts: number of starts.
        seed: seed of the random orders.

    Returns:
        The leaf names from top to bottom, left and right.

    Source: Fernau, Kaufmann and Poths (2010), "Comparing trees via crossing minimization", for
    ordering one tree against the other.
    """
    generator = numpy_generator(seed, "untangle")
    best: tuple[int, list[str], list[str]] | None = None
    for start in range(starts):
        if start == 0:
            right = _leaf_order(truth)
        elif start == 1:
            right = _ordered_against(truth, _leaf_order(observed))
        else:
            shuffled = [truth.leaves[leaf] for leaf in generator.permutation(truth.num_leaves)]
            right = _ordered_against(truth, shuffled)
        before = None
        while True:
            left = _ordered_against(observed, right)
            right = _ordered_against(truth, left)
            crossings = count_crossings(left, right)
            if best is None or crossings < best[0]:
                best = (crossings, left, right)
            if before is not None and crossings >= before:
                break
            before = crossings
        if best[0] == 0:
            break
    if best is None:
        raise ConfigurationError(f"starts must be positive, not {starts}")
    return best[1], best[2]


def count_crossings(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many pairs of links cross between two orders of the same names."""
    place = {name: row for row, name in enumerate(right)}
    rows = np.array([place[name] for name in left])
    return int(np.triu(rows[:, None] > rows[None, :], 1).sum())


def _children(tree: Tree) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in range(tree.num_nodes)]
    for node, parent in enumerate(tree.parent.tolist()):
        if parent >= 0:
            children[parent].append(node)
    return children


def _leaf_order(tree: Tree) -> list[str]:
    return [tree.leaves[leaf] for leaf in tree.leaf_order]


def _ordered_against(tree: Tree, fixed: Sequence[str]) -> list[str]:
    """Return the leaves of a tree with its children turned towards a fixed order of leaves."""
    place = {name: row for row, name in enumerate(fixed)}
    children = _children(tree)
    rows: list[list[int]] = [[] for _ in range(tree.num_nodes)]
    # Nodes are numbered breadth first: children are done before their parent.
    for node in range(tree.num_nodes - 1, -1, -1):
        if tree.leaf[node] >= 0:
            rows[node] = [place[tree.leaves[tree.leaf[node]]]]
            continue
        ordered = sorted(children[node], key=lambda child: (np.mean(rows[child]), min(rows[child])))
        swapped = True
        while swapped:
            swapped = False
            for k in range(len(ordered) - 1):
                above, below = np.array(rows[ordered[k]]), np.array(rows[ordered[k + 1]])
                inverted = int((above[:, None] > below[None, :]).sum())
                if 2 * inverted > len(above) * len(below):
                    ordered[k : k + 2] = ordered[k + 1], ordered[k]
                    swapped = True
        rows[node] = [row for child in ordered for row in rows[child]]
    return [fixed[row] for row in rows[0]]


def _draw_tree(
    axes: Axes,
    tree: Tree,
    order: Sequence[str],
    base: float,
    direction: int,
    shared: frozenset[frozenset[str]],
) -> None:
    """Draw a tree whose leaves end at x = `base` and whose root lies in `direction`."""
    row = {name: k for k, name in enumerate(order)}
    children = _children(tree)
    bits = tree.node_bits
    # Leaves are aligned: a node stands as far out as its highest subtree asks for.
    rise = np.zeros(tree.num_nodes)
    y = np.zeros(tree.num_nodes)
    for node in range(tree.num_nodes - 1, -1, -1):
        if tree.leaf[node] >= 0:
            y[node] = row[tree.leaves[tree.leaf[node]]] * _LEAF_HEIGHT
            continue
        rise[node] = 1 + max(rise[child] for child in children[node])
        ends = [y[child] for child in children[node]]
        y[node] = (min(ends) + max(ends)) / 2
    x = base + direction * rise * _LEVEL_WIDTH
    plain, common, own = [], [], []
    dots: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for node in range(tree.num_nodes):
        ends = [y[child] for child in children[node]] or [y[node]]
        stem = [(x[node], min(ends)), (x[node], max(ends))]
        if node == 0:
            plain.append(stem)
            continue
        parent = int(tree.parent[node])
        branch = [(x[node], y[node]), (x[parent], y[node])]
        if not children[node]:
            plain.append(branch)
            continue
        cluster = frozenset(name for k, name in enumerate(tree.leaves) if bits[node] >> k & 1)
        is_shared = cluster in shared
        (common if is_shared else own).extend([branch, stem])
        dots[is_shared].append((float(x[node]), float(y[node])))
    for lines, colour, width, dash, kind in (
        (plain, GREY, 1.0, "-", "plain"),
        (own, _OWN_COLOUR, 1.4, (0, (3, 1.2)), "own"),
        (common, _SHARED_COLOUR, 2.0, "-", "shared"),
    ):
        axes.add_collection(
            LineCollection(
                lines, colors=colour, linewidths=width, linestyles=[dash], capstyle="butt", gid=kind
            ),
            autolim=False,
        )
    for is_shared, colour, face in (
        (True, _SHARED_COLOUR, _SHARED_COLOUR),
        (False, _OWN_COLOUR, PAPER),
    ):
        if dots[is_shared]:
            axes.scatter(
                *np.array(dots[is_shared]).T,
                s=22,
                c=face,
                edgecolors=colour,
                linewidths=1.2,
                zorder=4,
            )
    axes.scatter(x[0], y[0], s=22, marker="s", c=INK, zorder=4)


def _draw_links(
    axes: Axes, left: Sequence[str], right: Sequence[str], names: float, inner: float
) -> None:
    place = {name: row for row, name in enumerate(right)}
    t = np.linspace(0, 1, 30)
    ease = t * t * (3 - 2 * t)
    links, colours = [], []
    for row, name in enumerate(left):
        y = (row + (place[name] - row) * ease) * _LEAF_HEIGHT
        links.append(np.stack([names + t * (inner - 2 * names), y], axis=1))
        colours.append(OKABE_ITO["sky blue"] if place[name] == row else OKABE_ITO["blue"])
    axes.add_collection(
        LineCollection(links, colors=colours, linewidths=0.9, gid="links"), autolim=False
    )


__all__ = ["count_crossings", "facing_trees", "untangle"]
