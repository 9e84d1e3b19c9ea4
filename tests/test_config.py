from __future__ import annotations

import re

import pytest
import yaml

from espalier import config
from espalier.errors import ConfigurationError


def test_the_committed_files_are_the_generated_ones(root):
    """Run `python -m espalier.config` after a change of the typed configuration."""
    assert (root / "config/config.yaml").read_text() == config.default_yaml()
    assert (root / "config/schemas/config.schema.yaml").read_text() == config.schema_yaml()


def test_the_default_file_is_the_default(root):
    values = yaml.safe_load((root / "config/config.yaml").read_text())
    assert config.load(values) == config.load({})


def test_the_readme_names_every_key_and_every_experiment(root):
    lines = (root / "config/README.md").read_text().splitlines()
    words = [word for line in lines for word in re.findall(r"`([^`]+)`", line)]
    named = {word.partition(".{")[0] for word in words}
    schema = config.Settings.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key in section["properties"]:
            assert key in named, key
    for path in (root / "config/experiments").glob("*.yaml"):
        assert f"experiments/{path.name}" in named, path.name


def test_every_key_is_described():
    def walk(schema):
        for name, value in schema.get("properties", {}).items():
            assert "description" in value, name
        for section in schema.get("$defs", {}).values():
            walk(section)

    walk(config.Settings.model_json_schema())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modles": ["small_cnn"]}, r"modles: unknown key\. Did you mean 'models'\?"),
        ({"training": {"epoch": 3}}, r"training\.epoch: unknown key\. Did you mean 'epochs'\?"),
        ({"models": ["smal_cnn"]}, r"unknown model 'smal_cnn'\. Did you mean 'small_cnn'\?"),
        ({"pruners": ["group_magnitud"]}, r"unknown pruner.*Did you mean 'group_magnitude'\?"),
        ({"detectors": ["nested_smb"]}, r"unknown detector.*Did you mean 'nested_sbm'\?"),
        ({"datasets": ["digit"]}, r"unknown data set 'digit'\. Did you mean 'digits'\?"),
        ({"sparsities": [1.0]}, r"sparsities\.0: Input should be less than 1 \(given: 1\.0\)"),
        ({"sparsities": [-0.1]}, r"greater than 0 \(given: -0\.1\)"),
        ({"sparsities": [0.5, 0.5]}, "0.5 listed more than once"),
        ({"seeds": []}, "seeds: List should have at least 1 item"),
        ({"jobs_per_gpu": 0}, r"jobs_per_gpu: .*greater than or equal to 1 \(given: 0\)"),
        ({"jobs_per_gpu": 1.5}, r"jobs_per_gpu: .*valid integer"),
        (
            {"training": {"schedule": "cosin"}},
            r"training\.schedule: .*given: 'cosin'\) Did you mean 'cosine'\?",
        ),
        (
            {"training_overrides": {"small_cnn": {"epoch": 1}}},
            r"training_overrides\.small_cnn\.epoch: unknown key\. Did you mean 'epochs'\?",
        ),
        (
            {"training_overrides": {"digit/small_cnn": {"epochs": 1}}},
            r"'digit/small_cnn' matches no network\. Did you mean 'digits/small_cnn'\?",
        ),
        ({"training_overrides": {"small_cnn": {"epochs": 0}}}, r"small_cnn\.epochs: .*greater"),
        ({"dataset_options": {"digit": {}}}, r"not among datasets\. Did you mean 'digits'\?"),
        ({"datasets": ["pets"], "dataset_options": {"pets": {"source": "folder"}}}, "needs a path"),
        (
            {"datasets": ["pets"], "dataset_options": {"pets": {"source": "foldr"}}},
            r"unknown source 'foldr'\. Did you mean 'folder'\?",
        ),
        ({"pruning": {"epochs": 10}}, "pruning comes after 0.7 of 20 epochs"),
        ({"pruning": {"options": {"count": "x"}}}, r"option of pruner.*Did you mean 'counts'"),
        (
            {"pruning_overrides": {"group_magnitude": {"strength": {"0.5": 1e-4}}}},
            "has no value for sparsity 0.675",
        ),
        (
            {"pruning_overrides": {"digits": {"algorithm": "snip"}}},
            r"pruning_overrides\.digits\.algorithm: set it under a pruner's name",
        ),
        (
            {"detector_options": {"nested_sbm": {"hierarchie": 3}}},
            r"Did you mean 'hierarchies'\?",
        ),
    ],
)
def test_a_fault_names_the_culprit_and_the_mend(values, message):
    with pytest.raises(ConfigurationError, match=message):
        config.load(values)


def test_all_faults_are_listed_at_once():
    with pytest.raises(ConfigurationError) as error:
        config.load({"modles": [], "training": {"epochs": 0}})
    assert str(error.value).count("\n") == 2


def test_the_most_specific_override_wins():
    settings = config.load(
        {
            "training": {"epochs": 5, "batch_size": 7},
            "training_overrides": {
                "digits": {"epochs": 3},
                "small_cnn": {"epochs": 2, "learning_rate": 0.5},
                "digits/small_cnn": {"weight_decay": 0.25},
            },
        }
    )
    recipe = settings.recipe("digits", "small_cnn")
    assert (recipe.epochs, recipe.batch_size) == (3, 7)
    assert (recipe.learning_rate, recipe.weight_decay) == (0.5, 0.25)
    assert settings.recipe("digits", "medium_cnn").epochs == 3


def test_pruned_networks_train_twice_as_long_by_default():
    settings = config.load({"training": {"epochs": 7}})
    assert settings.pruning_of("digits", "small_cnn", "group_magnitude").epochs == 14
    longer = config.load({"pruning_overrides": {"small_cnn": {"epochs": 50}}})
    assert longer.pruning_of("digits", "small_cnn", "group_magnitude").epochs == 50


def test_strength_per_sparsity():
    pruning = config.Pruning(strength={"0.5": 1e-5, "0.9": 1e-3})
    assert config.strength_at(pruning, 0.9) == 1e-3
    with pytest.raises(ConfigurationError, match=r"no value for sparsity 0\.7"):
        config.strength_at(pruning, 0.7)


def test_names_of_sparsities():
    tokens = [config.sparsity_token(value) for value in (0, 0.5, 0.675, 0.99, 0.12345678)]
    assert tokens == ["0", "0.5", "0.675", "0.99", "0.12345678"]


@pytest.mark.parametrize("name", ["fashion_small", "class_hierarchies"])
def test_experiments_are_valid(root, name):
    values = yaml.safe_load((root / f"config/experiments/{name}.yaml").read_text())
    config.load(values)
