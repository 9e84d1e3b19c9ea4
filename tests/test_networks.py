from __future__ import annotations

import pytest

from espalier.errors import EspalierError
from espalier.networks import Network, network_of_path


def test_paths_name_networks():
    assert network_of_path(
        "results/hierarchy/digits/small_cnn/dense/0/seed1.checkpoint10.nested_sbm.json"
    ) == Network("digits", "small_cnn", "dense", 0.0, 1, 10)
    assert network_of_path("x/digits/small_cnn/group_magnitude/0.675/seed0.npz") == Network(
        "digits", "small_cnn", "group_magnitude", 0.675, 0, None
    )


@pytest.mark.parametrize(
    "path", ["results/tables/rf.csv", "a/b/c/1.5/seed0.npz", "a/b/c/0/seed.npz"]
)
def test_other_paths_are_errors(path):
    with pytest.raises(EspalierError, match="does not end in"):
        network_of_path(path)
