"""Bad input is named with its mend, and nothing half-written stays."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.files import read_npz, write_npz

TARGET = "results/tables/rf.csv"


def no_partial_files(workflow):
    assert not workflow.path(TARGET).exists()
    assert not list(workflow.folder.glob("results/**/*.tmp"))
    assert not list(workflow.folder.glob("resources/**/*.tmp"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [0]}, "seed: unknown key. Did you mean 'seeds'?"),
        ({"pruners": ["group_magnitud"]}, "Did you mean 'group_magnitude'?"),
        ({"sparsities": [1.5]}, "Input should be less than 1 (given: 1.5)"),
        ({"datasets": ["fashion_mnst"]}, "Did you mean 'fashion_mnist'?"),
        ({"detectors": ["leyden"]}, "Did you mean 'leiden'?"),
    ],
)
def test_the_configuration_is_refused_before_anything_runs(fresh, toy_settings, change, message):
    fresh.write_config({**toy_settings, **change})
    assert message in fresh.run("--cores", "1", TARGET, check=False)
    assert not fresh.path("results").exists() and not fresh.path("resources").exists()


def own_images(workflow, toy_settings, size, classes=("circle", "square", "star")):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % len(classes)
    images = rng.integers(0, 256, (60, size, size, 1), dtype=np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    write_npz(workflow.path("shapes.npz"), {**arrays, "class_names": np.array(classes)})
    workflow.path("shapes.nwk").write_text("((circle,square),star);")
    options = {"source": "npz", "path": "shapes.npz", "truth": "shapes.nwk"}
    settings = {**toy_settings, "datasets": ["shapes"], "dataset_options": {"shapes": options}}
    workflow.write_config(settings)


def test_a_tree_with_other_leaves_is_named_before_training(fresh, toy_settings):
    own_images(fresh, toy_settings, 8)
    fresh.path("shapes.nwk").write_text("((circle,squares),star,oval);")
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "square" in output and "squares" in output and "oval" in output
    assert not fresh.path("results/checkpoints").exists()
    no_partial_files(fresh)


def test_an_image_too_small_for_the_model(fresh, toy_settings):
    own_images(fresh, toy_settings, 2)
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "small_cnn" in output and "2" in output
    no_partial_files(fresh)


def test_a_missing_folder_of_images(fresh, toy_settings):
    own_images(fresh, toy_settings, 8)
    fresh.path("shapes.npz").unlink()
    assert "shapes.npz" in fresh.run("--cores", "1", TARGET, check=False)


def test_a_truncated_data_set(fresh, toy_settings):
    own_images(fresh, toy_settings, 8)
    path = fresh.path("shapes.npz")
    path.write_bytes(path.read_bytes()[:500])
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "shapes.npz is not a readable NPZ archive" in output
    assert not fresh.path("resources/datasets/shapes.npz").exists()


def test_a_loss_that_is_not_finite(fresh, toy_settings):
    training = {**toy_settings["training"], "learning_rate": 1e30}
    fresh.write_config({**toy_settings, "training": training})
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "the loss is not finite in epoch" in output and "Lower the learning rate" in output
    assert not list(fresh.folder.glob("results/checkpoints/**/*.safetensors"))


def test_a_layer_that_would_be_pruned_away(fresh, toy_settings):
    fresh.write_config({**toy_settings, "sparsities": [0.95]})
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "would remove all 8 units" in output
    assert not list(fresh.folder.glob("results/masks/**/*.npz"))


def test_own_images_run_to_the_end(fresh, toy_settings):
    own_images(fresh, toy_settings, 8)
    fresh.write_config(
        {
            **toy_settings,
            "seeds": [0],
            "datasets": ["shapes"],
            "detectors": ["confusion"],
            "shuffled": False,
            "dataset_options": {
                "shapes": {"source": "npz", "path": "shapes.npz", "truth": "shapes.nwk"}
            },
        }
    )
    fresh.run("--cores", "2", TARGET)
    arrays, _ = read_npz(fresh.path("resources/datasets/shapes.npz"))
    assert arrays["x_train"].shape == (60, 8, 8, 1)
    assert "shapes,small_cnn" in fresh.path(TARGET).read_text()


def test_graph_tool_absent(fresh, toy_settings):
    without = {"detectors": ["nested_sbm"], "graph_tool_python": "/bin/false"}
    fresh.write_config({**toy_settings, **without})
    output = fresh.run("--cores", "1", TARGET, check=False)
    assert "that Python has no graph-tool" in output and "/bin/false" in output
    assert "leave nested_sbm out of the detectors" in output
    assert not fresh.path("results/checkpoints").exists(), "found out before training"
    no_partial_files(fresh)
