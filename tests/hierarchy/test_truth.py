from __future__ import annotations

from pathlib import Path

import pytest

from espalier.errors import DataError
from espalier.hierarchy.distances import tree_distances
from espalier.hierarchy.truth import load_truth

FOLDER = Path(__file__).parents[2] / "config" / "hierarchies"
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker")
FASHION += ("Bag", "Ankle boot")
CIFAR20 = (
    *("bear", "bicycle", "bus", "fox", "lawn_mower", "leopard", "lion", "motorcycle"),
    *("pickup_truck", "porcupine", "possum", "raccoon", "rocket", "skunk", "streetcar"),
    *("tank", "tiger", "tractor", "train", "wolf"),
)
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SHAPES = {
    # leaves, clusters, splits
    "fashion_mnist": (10, 5, 5),
    "cifar20": (20, 10, 9),
    "cifar100": (100, 20, 20),
    "tiny_imagenet": (200, 95, None),
    "imagenet": (1000, 371, None),
    "digits": (10, 6, 6),
    "mnist": (10, 6, 6),
    "cifar10": (10, 6, 5),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shipped_trees(name):
    leaves, clusters, splits = SHAPES[name]
    tree = load_truth(FOLDER / f"{name}.nwk")
    assert tree.num_leaves == leaves
    assert len(tree.clusters()) == clusters
    if splits is not None:
        assert len(tree.splits()) == splits
    # The head of every file says where its tree is from.
    assert (FOLDER / f"{name}.nwk").read_text().startswith("[")
    assert f"{name}.nwk" in (FOLDER / "NOTICE.md").read_text()


def test_every_shipped_tree_is_tested():
    assert {path.stem for path in FOLDER.glob("*.nwk")} == SHAPES.keys()


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("fashion_mnist", FASHION),
        ("cifar20", CIFAR20),
        ("cifar10", CIFAR10),
        ("digits", "0123456789"),
        ("mnist", "0123456789"),
    ],
)
def test_leaves_are_the_classes_of_the_data_set(name, classes):
    assert load_truth(FOLDER / f"{name}.nwk", list(classes)).leaves == tuple(classes)


def test_published_rf_from_the_shipped_tree():
    figure_3 = (
        "((Sandal,Sneaker,'Ankle boot'),(Bag,('T-shirt/top',Trouser,Pullover,Dress,Coat,Shirt)));"
    )
    truth = load_truth(FOLDER / "fashion_mnist.nwk", FASHION)
    assert tree_distances(figure_3, truth)["rf"] == 3
    assert tree_distances(figure_3, truth, rooted=True)["rf"] == 4


def test_superclasses_of_cifar100():
    tree = load_truth(FOLDER / "cifar100.nwk")
    assert {len(cluster) for cluster in tree.clusters()} == {5}
    assert frozenset(["baby", "boy", "girl", "man", "woman"]) in tree.clusters()
    assert "large_man-made_outdoor_things" in tree.labels


def test_other_classes(tmp_path):
    path = tmp_path / "mine.nwk"
    path.write_text("((Sandal,Sneaker),Bag);")
    with pytest.raises(DataError) as error:
        load_truth(path, ["Sandals", "Sneaker", "Bag", "Coat"])
    message = str(error.value)
    for part in (str(path), "missing: 'Sandals', 'Coat'", "extra: 'Sandal'", "mean 'Sandals'?"):
        assert part in message
    with pytest.raises(DataError, match="one occurs twice"):
        load_truth(path, ["Sandal", "Sneaker", "Bag", "Bag"])


def test_damaged_and_missing_files(tmp_path):
    path = tmp_path / "broken.nwk"
    path.write_text("((a,b);")
    with pytest.raises(DataError, match=r"broken\.nwk: Newick, line 1"):
        load_truth(path)
    path.write_bytes(b"(a,\xff\xfe);")
    with pytest.raises(DataError, match=r"broken\.nwk"):
        load_truth(path)
    with pytest.raises(DataError, match=r"brokn\.nwk does not exist.*'broken'"):
        load_truth(tmp_path / "brokn.nwk")
