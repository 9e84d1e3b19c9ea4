from __future__ import annotations

import itertools

import numpy as np
import pytest
from figure_fixtures import CIFAR20, FASHION, assert_no_overlap
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.errors import DataError
from espalier.figures.style import save
from espalier.figures.tanglegram import count_crossings, facing_trees, untangle
from espalier.hierarchy.trees import Tree, parse_newick

TRUTH = (
    "(((('T-shirt/Top',Shirt),Pullover,Coat),(Dress,Trouser)),(Sandal,Sneaker,'Ankle Boot'),Bag);"
)
OBSERVED = (
    "((Sandal,Sneaker,'Ankle Boot'),(Bag,('T-shirt/Top',Trouser,Pullover,Dress,Coat,Shirt)));"
)
CIFAR_TRUTH = (
    "((((tiger,lion,leopard),(fox,wolf),bear),(skunk,raccoon,possum,porcupine)),"
    "((tank,rocket,tractor,'lawn_mower'),((bicycle,motorcycle),(streetcar,train),bus,"
    "'pickup_truck')));"
)


def allowed_orders(tree: Tree) -> set[tuple[str, ...]]:
    """Return every leaf order that turning children allows, by enumeration."""
    children = [np.flatnonzero(tree.parent == node) for node in range(tree.num_nodes)]

    def below(node):
        if tree.leaf[node] >= 0:
            return [(tree.leaves[tree.leaf[node]],)]
        found = []
        for order in itertools.permutations(children[node]):
            for parts in itertools.product(*(below(child) for child in order)):
                found.append(sum(parts, ()))
        return found

    return set(below(0))


@st.composite
def trees(draw, names="abcde"):
    """Draw a random nested grouping of the names as Newick."""
    parts = list(draw(st.permutations(list(names))))
    while len(parts) > 1:
        size = draw(st.integers(2, min(3, len(parts))))
        parts = [*parts[size:], f"({','.join(parts[:size])})"]
        parts = list(draw(st.permutations(parts)))
    return parse_newick(parts[0] + ";")


@given(trees(), trees())
@settings(max_examples=40, deadline=None)
def test_untangled_orders_are_allowed_and_the_optimum_of_small_trees(observed, truth):
    left, right = untangle(observed, truth)
    lefts, rights = allowed_orders(observed), allowed_orders(truth)
    assert tuple(left) in lefts
    assert tuple(right) in rights
    crossings = count_crossings(left, right)
    best = min(count_crossings(a, b) for a in lefts for b in rights)
    assert crossings == best


@given(trees())
@settings(max_examples=30, deadline=None)
def test_a_tree_faces_itself_without_crossings(tree):
    turned = parse_newick(tree.newick())
    left, right = untangle(tree, turned)
    assert left == right


def test_count_crossings_by_pairs():
    rng = np.random.default_rng(0)
    left, right = list("abcdefgh"), list(rng.permutation(list("abcdefgh")))
    pairs = itertools.combinations(left, 2)
    expected = sum(right.index(a) > right.index(b) for a, b in pairs)
    assert count_crossings(left, right) == expected
    assert count_crossings("abc", "abc") == 0
    assert count_crossings("abc", "cba") == 3


def drawn(figure, kind):
    return [
        collection.get_segments()
        for collection in figure.axes[0].collections
        if collection.get_gid() == kind
    ]


def test_published_pair():
    figure = facing_trees(OBSERVED, TRUTH, title="Figures 3 and 4")
    title = next(t.get_text() for t in figure.texts if t.get_gid() == "title").replace("\n", " ")
    assert title == (
        "Figures 3 and 4 Robinson-Foulds: 3 unrooted (0 extra, 3 missing); "
        "4 rooted (1 extra, 3 missing)"
    )
    words = next(t.get_text() for t in figure.texts if t.get_gid() == "caption").replace("\n", " ")
    assert "2 shared clusters; the observed tree has 3, the truth 5; 10 classes" in words
    assert "(0 left)" in words
    # A branch and a stem for each shared cluster, in both trees; the rest likewise.
    assert [len(lines) for lines in drawn(figure, "shared")] == [4, 4]
    assert [len(lines) for lines in drawn(figure, "own")] == [2, 6]
    assert len(drawn(figure, "links")[0]) == 10
    texts = [t for t in figure.axes[0].texts if t.get_text() not in ("observed", "truth")]
    assert sorted(t.get_text() for t in texts) == sorted([*FASHION, *FASHION])
    assert_no_overlap(figure, texts)


def test_links_join_equal_names():
    figure = facing_trees(OBSERVED.replace("Bag", "Coat ").replace("Coat,", "Bag,"), TRUTH)
    texts = figure.axes[0].texts[:20]
    place = {}
    for text in texts:
        _, y = text.get_position()
        place[text.get_text(), text.get_ha()] = y
    ends = {(round(link[0, 1], 9), round(link[-1, 1], 9)) for link in drawn(figure, "links")[0]}
    wanted = {(round(place[n, "left"], 9), round(place[n, "right"], 9)) for n in FASHION}
    assert ends == wanted


def test_twenty_classes_against_a_star():
    star = "(" + ",".join(f"'{name}'" for name in CIFAR20) + ");"
    figure = facing_trees(star, CIFAR_TRUTH)
    title = next(t.get_text() for t in figure.texts if t.get_gid() == "title").replace("\n", " ")
    assert "9 unrooted (0 extra, 9 missing); 10 rooted (0 extra, 10 missing)" in title
    assert_no_overlap(figure, figure.axes[0].texts)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_bytes_are_equal_on_repeat(tmp_path, suffix):
    for name in ("a", "b"):
        save(facing_trees(OBSERVED, TRUTH), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_bad_input_is_named():
    with pytest.raises(DataError, match=r"missing: 'Bag'.*extra: 'Bagg'"):
        facing_trees(OBSERVED.replace("Bag", "Bagg"), TRUTH)
    with pytest.raises(DataError, match="not closed"):
        facing_trees("((a,b)", "(a,b);")
