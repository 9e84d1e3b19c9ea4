"""The typed configuration: one class per section, unknown keys refused with the nearest known one.

`config/config.yaml` and `config/schemas/config.schema.yaml` are generated from these classes by
`python -m espalier.config`; a test keeps them in step.
"""

from __future__ import annotations

import copy
import re
import sys
import textwrap
import typing
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from espalier.data.prepare import SOURCES
from espalier.errors import ConfigurationError, nearest_hint, unknown_name
from espalier.prediction.names import LINEAR

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_MOST_VALUES = 100_000
_DEEPEST = 50
Sparsity = Annotated[float, Field(gt=0, lt=1)]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DatasetOptions(Section):
    """Where one data set comes from and how it is split."""

    source: str | None = Field(
        None,
        description="digits, fashion_mnist, mnist, cifar10, cifar100, cifar20, tiny_imagenet, "
        "folder (images by class) or npz (prepared form); the data set's own name if left out.",
    )
    path: str | None = Field(None, description="The folder or NPZ of the sources folder and npz.")
    sha256: str | None = Field(None, description="Expected SHA-256 of the NPZ, checked if given.")
    image_size: int | None = Field(
        None, ge=4, description="Images of a folder are resized to this many pixels a side."
    )
    truth: str | None = Field(
        None,
        description="Newick file of the true class tree; config/hierarchies/{source}.nwk, or "
        "left out.",
    )
    per_class: int | None = Field(
        None,
        ge=1,
        description="Keep at most this many training, and as many test, images of every class.",
    )
    splits: Literal["text", "full", "published"] = Field(
        "text",
        description="text: validation images are held out of the training images, all test images "
        "test. full: all training images train, none validate. published: train on all training "
        "images, half of the test images validate.",
    )

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str | None) -> str | None:
        if value is not None and value not in SOURCES:
            raise ValueError(str(unknown_name("source", value, SOURCES)))
        return value


class ModelOptions(Section):
    """One network: an architecture and its width."""

    architecture: str | None = Field(
        None,
        description="Name in the model registry, torchvision:<classifier>, or file.py:function; "
        "the model's own name if left out.",
    )
    width: float = Field(1.0, gt=0, le=16, description="Factor on every hidden layer's units.")
    initialisation: Literal["default", "kaiming_normal"] = Field(
        "default",
        description="default: what torch's layers do. kaiming_normal: N(0, 2 / fan-in) weights and "
        "zero biases.",
    )
    frozen_biases: bool = Field(
        False, description="Biases of convolutions and dense layers stay zero."
    )


class Training(Section):
    """How a network is trained."""

    epochs: int = Field(20, ge=1, description="Epochs of the dense run.")
    batch_size: int = Field(64, ge=1, description="Images per update.")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="The optimiser.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(False, description="Nesterov's form of the momentum.")
    learning_rate: float = Field(1e-3, gt=0, description="Learning rate at the first epoch.")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty, added to the gradient.")
    schedule: Literal["cosine", "constant", "milestones"] = Field(
        "cosine",
        description="cosine: annealed to 0 over the epochs, one step an epoch. milestones: the "
        "rate falls by the factor gamma at each of them.",
    )
    milestones: list[Annotated[float, Field(gt=0)]] = Field(
        [], description="After how many epochs the rate falls; below 1: shares of the epochs."
    )
    gamma: float = Field(0.1, gt=0, le=1, description="Factor on the rate at a milestone.")
    augmentation: Literal["none", "thesis", "crop", "crop_flip"] = Field(
        "none",
        description="thesis: flip, rotation, shear, scale and colour jitter of the thesis. "
        "crop_flip: a window of the padded image, mirrored or not; crop: the window alone. Flips "
        "change what a digit is, so the digits use none.",
    )
    crop_padding: int = Field(4, ge=1, description="Pixels of padding for a crop.")
    normalisation: Literal["symmetric", "standard"] = Field(
        "symmetric",
        description="symmetric: pixels to -1..1. standard: mean 0 and deviation 1 of each channel "
        "over the training images.",
    )
    precision: Literal["float32", "mixed"] = Field(
        "float32", description="mixed: the forward pass in bfloat16 where that is safe."
    )
    compiled: bool = Field(False, description="Compile the training step on a GPU.")
    shuffle: bool = Field(True, description="A new order every epoch; the published code has none.")
    evaluation: Literal["eval", "published"] = Field(
        "eval",
        description="published: validation as the published code, dropout and batch statistics on.",
    )
    first_checkpoint: Literal["update", "epoch"] = Field(
        "update",
        description="What checkpoint 0 is: after one weight update (text) or one epoch "
        "(published code).",
    )


class Pruning(Section):
    """Pruning before, during or after training."""

    algorithm: str | None = Field(
        None,
        description="Name, import path or file of the algorithm; the pruner's own name if left "
        "out. Set per pruner.",
    )
    batch_size: int = Field(
        128, ge=1, description="Training images per batch that the algorithm scores with."
    )
    strength: float | dict[str, float] = Field(
        0.0,
        description="Pruning after training: weight of the group-Hoyer-square regulariser until "
        "then; one number, or one per sparsity.",
    )
    prune_at: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Pruning after training: share of the dense epochs after which to prune.",
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="Pruning after training: epochs in all, fine-tuning included; twice those of "
        "training if null.",
    )
    exclude: list[str] = Field(
        [],
        description="Parameters that stay dense and do not count, by name, for example "
        "conv1.weight.",
    )
    mask_history: bool = Field(
        False, description="Pruning during training: store the masks of every epoch."
    )
    options: dict[str, Any] = Field({}, description="Options of the pruning algorithm itself.")


class Coactivation(Section):
    """How activations become a weighted graph."""

    method: Literal["spearman", "pearson"] = Field("spearman", description="The correlation.")
    tap: Literal["linear_out", "post_bn", "post_relu"] = Field(
        "linear_out", description="Where a unit's activation is read."
    )
    reduce: Literal["mean", "max"] = Field(
        "mean", description="How a channel's map becomes one number."
    )
    output: Literal["logit", "softmax"] = Field(
        "logit", description="What the output units' activation is."
    )
    threshold: float = Field(0.5, ge=0, lt=1, description="Correlations below it are dropped.")
    rescale: Literal["linear", "min-max", "none"] = Field(
        "linear",
        description="linear: [threshold, 1] to [0, 1] (text). min-max: the observed weights to "
        "[0, 1] (published code). none: the correlation itself.",
    )


class Encoding(Section):
    """How pruned networks become graphs, and their topometrics tables."""

    convention: Literal["definition", "published"] = Field(
        "definition",
        description="definition: the graph and the measures as the paper defines them. published: "
        "as its public code makes them.",
    )
    padding_nodes: bool = Field(
        True, description="The first part has the padding's nodes, as in the paper."
    )
    identity_shortcuts: bool = Field(
        False, description="Shortcuts without weights are edges too; the paper leaves them out."
    )
    normalise: bool = Field(
        True, description="Divide by nodes or edges as the published columns do."
    )
    max_bytes: int = Field(
        4 * 2**30, ge=2**20, description="Memory that an explicit list of edges may take."
    )


class Distances(Section):
    """How trees are compared, and with which baselines."""

    permutations: int = Field(
        1000, ge=1, description="Leaf permutations of the truth, and random trees, per data set."
    )


class HubSearch(Section):
    """One search for the threshold of CenSET."""

    low: float = Field(0.0, ge=0, description="Smallest k of mu - k sigma.")
    high: float = Field(4.0, ge=0, description="Largest k.")
    step: float = Field(0.5, gt=0, description="Between two k.")
    epochs: int = Field(50, ge=1, description="Epochs of every run.")


class HubTraining(Section):
    """How perceptrons of the hub study are trained."""

    epochs: int = Field(50, ge=2, description="Epochs of the methods.")
    batch_size: int = Field(100, ge=1, description="Images per update.")
    learning_rate: float = Field(0.01, gt=0, description="Learning rate, constant.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of hidden outputs dropped.")
    epsilon: float = Field(20.0, gt=0, description="Density: epsilon (n_in + n_out) weights.")
    activation: Literal["srelu", "relu"] = Field(
        "srelu", description="srelu as in the paper, relu as in its public code."
    )
    sparse_output: bool = Field(False, description="The last layer is sparse too.")
    augmentation: bool = Field(False, description="Turn, shift and mirror the images.")
    kernel: Literal["measured", "compiled", "csr", "dense"] = Field(
        "measured",
        description="Products of sparse layers; measured takes the fastest, a name fixes the last "
        "digits on every machine.",
    )


class Hubs(Section):
    """Hub neurons: methods of sparse training side by side, and threshold searches."""

    networks: dict[Token, list[Token]] = Field(
        {}, description="Which models are trained per data set; all models if left out."
    )
    methods: list[Token] = Field(
        ["set", "censet", "random", "static", "dense"], description="Methods, see docs/hubs.md."
    )
    method_options: dict[Token, dict[str, Any]] = Field(
        {"censet": {"k": 2.6}, "random": {"reference": "censet"}},
        description="Options per method; method names one under a name of your own, and k may be "
        "the name of a search.",
    )
    searches: dict[Literal["wide", "semi_narrow", "narrow"], HubSearch] = Field(
        {}, description="Threshold searches."
    )
    search_options: dict[str, Any] = Field(
        {"method": "censet"}, description="The method whose k is searched, and its options."
    )
    protocol: Literal["validation", "published"] = Field(
        "validation",
        description="validation: images held out of the training images choose k. published: all "
        "training images train, and the test images choose, as in the paper.",
    )
    preset: Literal["definition", "paper", "cenbench"] = Field(
        "definition",
        description="The Laplacian centrality that tables tell, whatever a method judges by.",
    )
    snapshot_every: int = Field(
        25, ge=1, description="Epochs between snapshots of every unit's centrality."
    )
    training: HubTraining = Field(HubTraining(), description="How all of them are trained.")  # type: ignore[call-arg]
    overrides: dict[Token, dict[str, Any]] = Field(
        {}, description="Changes by data set to the keys of this section and of its training."
    )


class Prediction(Section):
    """Prediction of accuracy drop, pruner and rank from topometrics."""

    pools: list[Literal["own", "published"]] = Field(
        ["own"],
        min_length=1,
        description="Which networks: own, those of this configuration (results/tables), or those "
        "published with the papers (results/published/tables).",
    )
    published: str = Field(
        "mge-snn",
        min_length=1,
        description="Folder of the published tables: a path, or the name of a folder in one of "
        "the mirrors.",
    )
    encodings: list[Literal["unrolled", "rolled", "rolled-channel"]] = Field(
        ["unrolled", "rolled", "rolled-channel"],
        min_length=1,
        description="Graph encodings of the published regression; own networks are unrolled.",
    )
    protocols: list[str] = Field(
        ["published", "grouped"],
        description="Splits of the regression by setting. published: rows, as the papers; seeds of "
        "one configuration are then on both sides. grouped: seeds together.",
    )
    honest: list[str] = Field(
        [
            "grouped",
            "leave-architecture-out",
            "leave-dataset-out",
            "leave-pruner-out",
            "leave-sparsity-out",
        ],
        description="Splits of the tables with intervals, where inner validation chooses.",
    )
    folds: int = Field(5, ge=2, description="Folds of a split that has a number of them.")
    runs: int = Field(
        100, ge=1, description="Runs of the papers' regressions (TMLR Table 3, arXiv ablation)."
    )
    control_runs: int = Field(
        2, ge=1, description="Runs of regressions that the papers do not have."
    )
    learner_runs: int = Field(1, ge=1, description="Runs of the other learners below.")
    classification_runs: int = Field(
        3, ge=1, description="Runs of the classification; the paper has 100."
    )
    features: list[str] = Field(
        [
            "topometrics",
            "topometrics+dataset",
            "layer-density",
            "layer-density+sparsity-level+dataset+architecture",
            "sparsity-level",
            "dataset",
            "architecture",
            "pruner",
            "sparsity-level+dataset+architecture",
            "sparsity+dataset+architecture+pruner",
        ],
        min_length=1,
        description="Feature sets of the regressors below, see docs/prediction.md; topometrics "
        "stands for the ten of a layer in a rolled encoding.",
    )
    regressors: list[str] = Field(
        list(LINEAR),
        min_length=1,
        description="Regressors whose scores are averaged, as in TMLR Table 3.",
    )
    learners: list[str] = Field(
        ["extra_trees", "xgboost_slow", "gaussian_process"],
        description="Other regressors, of the unrolled encoding, one row each.",
    )
    learner_features: list[str] = Field(
        [
            "topometrics",
            "topometrics+dataset",
            "layer-density+sparsity-level+dataset+architecture",
            "sparsity-level+dataset+architecture",
            "sparsity+dataset+architecture+pruner",
        ],
        description="Feature sets of those.",
    )
    targets: list[Literal["category", "pruner"]] = Field(
        ["category", "pruner"], min_length=1, description="What is classified."
    )
    classifier: str = Field("xgboost", description="The classifier.")
    class_features: list[str] = Field(
        [
            "local",
            "regional",
            "local+regional",
            "topometrics",
            "layer-density",
            "sparsity-level+dataset+architecture",
        ],
        min_length=1,
        description="Feature sets of the classification.",
    )
    shuffles: int = Field(10, ge=1, description="Shuffles per fold of a permutation importance.")
    draws: int = Field(2000, ge=100, description="Bootstrap samples of an interval.")
    levels: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.5, 0.6, 0.7, 0.8, 0.9], description="Nominal levels of the calibration of intervals."
    )
    seed: int = Field(0, ge=0, description="Seed of splits, learners and bootstrap samples.")


class Sculpting(Section):
    """Neural Sculpting: networks pruned by units and edges, and the modules that are left."""

    functions: list[str] = Field(
        ["validation"],
        min_length=1,
        description="Function graphs: published names (4-1-2-16), families (validation, use, "
        "overlap, levels), digit tasks (two-digits-mnist, digit-xor-digits) or YAML files.",
    )
    hidden_layers: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="Numbers of hidden layers; those published for a function if left out."
    )
    widths: list[Annotated[int, Field(ge=1)]] = Field(
        [], description="Units of each hidden layer; those published for a function if left out."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1, 2, 5], min_length=1, description="Seeds, one trial each; the published ones."
    )
    learning_rate: float | None = Field(
        None, gt=0, description="Learning rate; the published one of function and shape if null."
    )
    batch_size: int | None = Field(None, ge=1, description="Rows per step; published if null.")
    epochs: int | None = Field(None, ge=1, description="Epochs per training; published if null.")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty, added to the gradient.")
    input_noise: float | None = Field(
        None, ge=0, description="Deviation of the noise on the inputs; the task's if null."
    )
    accuracy_threshold: float | None = Field(
        None, gt=0, le=1, description="Share of bits that must be right; the task's if null."
    )
    checkpoint_loss: Literal["mean", "published"] = Field(
        "mean",
        description="Loss of a checkpoint. published: over one batch too few, as the public code.",
    )
    unit_steps: list[Annotated[float, Field(gt=0, lt=100)]] = Field(
        [], description="First steps p_u in percent of the units; 5, 10, ... 70 if left out."
    )
    edge_steps: list[Annotated[float, Field(gt=0, lt=100)]] = Field(
        [],
        description="First steps p_e in percent of the edges; 0.5, 1, ... 2.5 if left out, and 5 "
        "for edge-only.",
    )
    control: Literal["none", "edge-only", "dense"] = Field(
        "none", description="edge-only: units are not pruned. dense: nothing is."
    )
    rules: Literal["implemented", "paper"] = Field(
        "implemented", description="Pruning loops as the public code or as the paper has them."
    )
    engine: Literal["auto", "edges", "stacked"] = Field(
        "auto", description="What trains: lists of edges or stacked matrices."
    )
    images_per_pair: int = Field(
        1000, ge=5, description="Images per pair of digits, the first 80 % of them for training."
    )
    null_networks: int = Field(
        99, ge=1, description="Random networks of the same degrees that each network is held to."
    )
    variants: dict[Token, dict[str, Any]] = Field(
        {"sculpted": {}},
        min_length=1,
        description="Experiments side by side: changes to the keys of this section under a name of "
        "your own, functions among them. Figures draw sculpted, else the first.",
    )
    overrides: dict[str, dict[str, Any]] = Field(
        {}, description="Changes to the keys of this section by function; a variant's win."
    )


class Settings(Section):
    """The whole configuration."""

    analyses: list[
        Literal["hierarchy", "accuracy", "topometrics", "hubs", "prediction", "sculpting"]
    ] = Field(
        ["hierarchy"],
        min_length=1,
        description="What is made of the networks: hierarchy (class trees and their distances), "
        "accuracy (one table by data set, pruner, model and sparsity), topometrics (graph measures "
        "of every pruned network), hubs (hub neurons and the methods of sparse training), "
        "prediction (accuracy drop, pruner and rank from topometrics), sculpting (modules of "
        "networks pruned to the Boolean functions they were trained on).",
    )
    datasets: list[Token] = Field(
        ["digits"], min_length=1, description="Data sets, by name; options below."
    )
    models: list[Token] = Field(
        ["small_cnn", "medium_cnn"], min_length=1, description="Networks, by name; options below."
    )
    pruners: list[Token] = Field(
        ["group_magnitude"], description="Pruners; the dense network is always there."
    )
    sparsities: list[Sparsity] = Field(
        [0.5, 0.675, 0.75, 0.825, 0.9], description="Shares of hidden units or weights removed."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1], min_length=1, description="Seeds; each trains every network anew."
    )
    checkpoints: int = Field(
        11, ge=2, description="Checkpoints of the dense run, the first and the last included."
    )
    detectors: list[Token] = Field(
        [
            "nested_sbm",
            "leiden",
            "infomap",
            "average_linkage",
            "induced_weights",
            "confusion",
            "class_means",
        ],
        min_length=1,
        description="What reads a class hierarchy from a network.",
    )
    shuffled: bool = Field(
        True,
        description="Also fit the block model to shuffled activations of the converged dense "
        "networks, as a null model.",
    )
    dataset_options: dict[Token, DatasetOptions] = Field({}, description="Per data set.")
    model_options: dict[Token, ModelOptions] = Field({}, description="Per model.")
    training: Training = Field(Training(), description="How networks are trained.")  # type: ignore[call-arg]
    training_overrides: dict[str, dict[str, Any]] = Field(
        {},
        description="Changes to training by 'model', 'dataset', 'dataset/model' or 'pruner'; what "
        "comes later in this list wins.",
    )
    pruning: Pruning = Field(Pruning(), description="How pruned networks are made.")  # type: ignore[call-arg]
    pruning_overrides: dict[str, dict[str, Any]] = Field(
        {"group_magnitude": {"strength": 1e-4}},
        description="Changes to pruning by 'pruner', 'model', 'dataset' or 'dataset/model'; the "
        "most specific wins.",
    )
    coactivation: Coactivation = Field(Coactivation(), description="The co-activation graph.")  # type: ignore[call-arg]
    encoding: Encoding = Field(
        Encoding(),  # type: ignore[call-arg]
        description="The unrolled multipartite graph and its topometrics.",
    )
    detector_options: dict[Token, dict[str, Any]] = Field(
        {"nested_sbm": {"hierarchies": 10, "restarts": 1, "max_refinements": 40}},
        description="Options per detector, see docs/detectors.md.",
    )
    distances: Distances = Field(Distances(), description="Comparison with the true tree.")  # type: ignore[call-arg]
    prediction: Prediction = Field(
        Prediction(),  # type: ignore[call-arg]
        description="Accuracy drop, pruner and rank from topometrics, see docs/prediction.md.",
    )
    hubs: Hubs = Field(Hubs(), description="Hub neurons and sparse training.")  # type: ignore[call-arg]
    sculpting: Sculpting = Field(
        Sculpting(),  # type: ignore[call-arg]
        description="Modules of networks pruned by units and edges, see docs/sculpting.md.",
    )
    mirrors: list[str] = Field(
        ["resources/mirror", "../shared/data"],
        description="Folders and URLs where data sets are looked for before they are downloaded; "
        "those in the variable ESPALIER_MIRRORS (separated by commas) come first.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where networks run.")
    jobs_per_gpu: int = Field(
        1,
        ge=1,
        description="Jobs that share one GPU of this machine; the variable ESPALIER_JOBS_PER_GPU "
        "wins.",
    )
    graph_tool_python: str = Field(
        "auto", description="A Python that has graph-tool; auto looks for one on this machine."
    )

    @field_validator(
        "analyses", "datasets", "models", "pruners", "sparsities", "seeds", "detectors"
    )
    @classmethod
    def _no_repeats(cls, values: list[Any]) -> list[Any]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{', '.join(map(str, repeated))} listed more than once")
        return values

    @model_validator(mode="after")
    def _names_are_known(self) -> Settings:
        for dataset in self.datasets:
            options = self.dataset(dataset)
            if options.source not in SOURCES:
                raise ValueError(
                    str(unknown_name("data set", dataset, SOURCES))
                    + ". For data of your own set dataset_options."
                    f"{dataset}.source to folder or npz, and its path"
                )
            if options.source in ("folder", "npz") and not options.path:
                raise ValueError(f"dataset_options.{dataset}: source {options.source} needs a path")
        _check_named("models", self.models, self.model_options, "model_options")
        _check_named("datasets", self.datasets, self.dataset_options, "dataset_options", True)
        for model in self.models:
            _check(_known_model, str(self.model(model).architecture))
        for pruner in self.pruners:
            _check(_known_pruner, self.algorithm(pruner), {})
        for detector in dict.fromkeys([*self.detectors, *self.detector_options]):
            _check(_known_detector, detector, self.detector_options.get(detector, {}))
        for dataset in self.datasets:
            for model in self.models:
                self.recipe(dataset, model)
                for pruner in self.pruners:
                    self.pruning_of(dataset, model, pruner)
        self._check_overrides()
        _check(_known_in_prediction, self.prediction)
        if "hubs" in self.analyses:
            _check(self._check_hubs)
        if "sculpting" in self.analyses:
            _check(self._check_sculpting)
        return self

    def _check_hubs(self) -> None:
        for section, known in (("networks", self.datasets), ("overrides", self.datasets)):
            for name in getattr(self.hubs, section):
                if name not in known:
                    raise unknown_name(f"data set of hubs.{section}", name, known)
        for dataset, models in self.hub_networks().items():
            for model in models:
                if model not in self.models:
                    raise unknown_name(f"model of hubs.networks.{dataset}", model, self.models)
            self.hub_runs(dataset)

    def hub_networks(self) -> dict[str, list[str]]:
        """Return the models that the hub study trains on each data set."""
        if not self.hubs.networks:
            return dict.fromkeys(self.datasets, self.models)
        return self.hubs.networks

    def hubs_of(self, dataset: str) -> Hubs:
        """Return the hub section of a data set, overrides applied."""
        changes = dict(self.hubs.overrides.get(dataset, {}))
        known = {*HubTraining.model_fields, *Hubs.model_fields} - {"networks", "overrides"}
        for key in changes:
            if key not in known:
                raise unknown_name(f"key of hubs.overrides.{dataset}", key, known)
        inner = {key: changes.pop(key) for key in list(changes) if key in HubTraining.model_fields}
        training = _override(self.hubs.training, {dataset: inner}, (dataset,), "hubs.overrides")
        changed = _override(self.hubs, {dataset: changes}, (dataset,), "hubs.overrides")
        return changed.model_copy(update={"training": training})

    def hub_runs(self, dataset: str) -> dict[str, Any]:
        """Return the runs of the hub study on a data set (`espalier.hubs.protocols.Run`)."""
        from espalier.hubs.protocols import planned_runs

        hubs = self.hubs_of(dataset)
        return planned_runs(
            hubs.methods,
            hubs.method_options,
            hubs.training.epochs,
            {name: search.model_dump() for name, search in hubs.searches.items()},
            hubs.search_options,
            hubs.protocol,
        )

    def _check_sculpting(self) -> None:
        from espalier.sculpting.experiments import is_file
        from espalier.sculpting.functions import read_function

        networks = self.sculpted_networks()
        functions = list(dict.fromkeys(function for _, function, _ in networks))
        for name in self.sculpting.overrides:
            if name not in functions:
                raise unknown_name("function of sculpting.overrides", name, functions)
        for variant, function, hidden in networks:
            section = self.sculpting_of(variant, function)
            if len(set(section.seeds)) < len(section.seeds):
                raise ConfigurationError("sculpting.seeds lists a seed more than once")
            self.sculpting_recipe(variant, function, hidden)
        for function in filter(is_file, functions):
            if Path(function).exists():
                read_function(function)

    def sculpting_of(self, variant: str, function: str) -> Sculpting:
        """Return the sculpting section of a variant and a function, changes applied."""
        changes = {
            "overrides": (self.sculpting.overrides, function),
            "variants": (self.sculpting.variants, variant),
        }
        section = self.sculpting
        for name, (values, key) in changes.items():
            section = _override(section, values, (key,), f"sculpting.{name}")
        return section

    def sculpted_networks(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return variant, function and widths of hidden layers of every network, but seeds."""
        from espalier.sculpting.experiments import hidden_shapes, listed_functions

        networks = []
        for variant, changes in self.sculpting.variants.items():
            listed = changes.get("functions", self.sculpting.functions)
            for function in listed_functions(listed):
                section = self.sculpting_of(variant, function)
                networks += [
                    (variant, function, shape)
                    for shape in hidden_shapes(function, section.hidden_layers, section.widths)
                ]
        return networks

    def sculpting_recipe(
        self, variant: str, function: str, hidden: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the fields of `espalier.sculpting.training.Recipe` of one network."""
        from espalier.sculpting.experiments import chosen_recipe

        section = self.sculpting_of(variant, function)
        keys = {
            "learning_rate", "batch_size", "epochs", "weight_decay", "input_noise",
            "accuracy_threshold", "checkpoint_loss",
        }  # fmt: skip
        return chosen_recipe(function, hidden, section.model_dump(include=keys))

    def _check_overrides(self) -> None:
        pairs = {f"{dataset}/{model}" for dataset in self.datasets for model in self.models}
        names = pairs | set(self.datasets) | set(self.models) | {"dense", *self.pruners}
        for section in ("training_overrides", "pruning_overrides"):
            for key, changes in getattr(self, section).items():
                if "algorithm" in changes and key not in self.pruners:
                    raise ValueError(f"{section}.{key}.algorithm: set it under a pruner's name")
                wellformed = all(_TOKEN.fullmatch(part) for part in key.split("/"))
                if not wellformed or key.count("/") > 1:
                    raise ValueError(f"{section}: {key!r} is not 'name' or 'dataset/model'")
                close = nearest_hint(key, names)
                if key not in names and close and not self._may_be_elsewhere(key):
                    raise ValueError(f"{section}: {key!r} matches no network.{close}")

    def _may_be_elsewhere(self, key: str) -> bool:
        """Return whether `key` names known things that this experiment merely does not use."""
        known = {*SOURCES, *_model_names(), *self.pruners, *self.dataset_options}
        known |= {*self.model_options, *self.datasets, *self.models, *_pruner_names()}
        return all(part in known for part in key.split("/"))

    def dataset(self, name: str) -> DatasetOptions:
        """Return the options of a data set with source and truth filled in."""
        options = self.dataset_options.get(name, DatasetOptions())  # type: ignore[call-arg]
        own_images = options.source in ("folder", "npz")
        stem = name if own_images else options.source or name
        truth = options.truth or f"config/hierarchies/{stem}.nwk"
        return options.model_copy(update={"source": options.source or name, "truth": truth})

    def model(self, name: str) -> ModelOptions:
        """Return the options of a model with the architecture filled in."""
        options = self.model_options.get(name, ModelOptions())  # type: ignore[call-arg]
        return options.model_copy(update={"architecture": options.architecture or name})

    def recipe(self, dataset: str, model: str, pruner: str = "dense") -> Training:
        """Return how (dataset, model, pruner) is trained, overrides applied."""
        keys = (model, dataset, f"{dataset}/{model}", pruner)
        training = _override(self.training, self.training_overrides, keys, "training_overrides")
        _check(_known_recipe, training)
        return training

    def algorithm(self, pruner: str) -> str:
        """Return the name, import path or file of a pruner's algorithm."""
        return self.pruning_overrides.get(pruner, {}).get("algorithm") or pruner

    def acts(self, pruner: str) -> str:
        """Return when a pruner acts: "before", "during" or "after" training."""
        from espalier.pruning.registry import acts

        return acts(self.algorithm(pruner))

    def pruning_of(self, dataset: str, model: str, pruner: str) -> Pruning:
        """Return how (dataset, model, pruner) is pruned, overrides applied and epochs filled in."""
        keys = (pruner, model, dataset, f"{dataset}/{model}")
        section = _override(self.pruning, self.pruning_overrides, keys, "pruning_overrides")
        algorithm = self.algorithm(pruner)
        _check(_known_pruner, algorithm, section.options)
        section = section.model_copy(update={"algorithm": algorithm})
        dense_epochs = self.recipe(dataset, model, pruner).epochs
        if section.epochs is None:
            section = section.model_copy(update={"epochs": 2 * dense_epochs})
        if self.acts(pruner) == "after" and section.epochs <= section.prune_at * dense_epochs:
            raise ConfigurationError(
                f"pruning.epochs is {section.epochs} for {dataset}/{model}, but pruning comes "
                f"after {section.prune_at:g} of {dense_epochs} epochs; give it more epochs"
            )
        for sparsity in self.sparsities:
            strength_at(section, sparsity)
        return section


def strength_at(pruning: Pruning, sparsity: float) -> float:
    """Return the regulariser's strength for a sparsity.

    Raises:
        ConfigurationError: strengths are given per sparsity and this one is missing.
    """
    if not isinstance(pruning.strength, dict):
        return pruning.strength
    for key, strength in pruning.strength.items():
        if float(key) == sparsity:
            return strength
    raise ConfigurationError(
        f"pruning.strength has no value for sparsity {sparsity:g}; it has one for "
        f"{', '.join(pruning.strength)}"
    )


def sparsity_token(sparsity: float) -> str:
    """Return a sparsity as it stands in a path: 0.675, and 0 for the dense network."""
    return f"{Decimal(str(sparsity)).normalize():f}"


def load(values: Mapping[str, Any]) -> Settings:
    """Return the validated settings of a mapping as YAML gives it.

    Raises:
        ConfigurationError: one line per fault, each with the key, the value and the nearest
            known key.
    """
    _check_size(values)
    try:
        return Settings.model_validate(copy.deepcopy(dict(values)))
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise ConfigurationError(
            "the configuration is not usable:\n  " + "\n  ".join(lines)
        ) from None


def _check_size(values: Any) -> None:
    """Refuse what aliases of YAML can write in a few lines: endless or enormous values."""
    waiting, seen = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise ConfigurationError(
                f"the configuration holds more than {_MOST_VALUES} values or is nested more than "
                f"{_DEEPEST} deep; does an alias (*name) stand inside what it names?"
            )
        parts = value.values() if isinstance(value, Mapping) else value
        if isinstance(value, Mapping | list | tuple):
            waiting.extend((part, depth + 1) for part in parts)


def known_fields(location: tuple[Any, ...]) -> list[str]:
    """Return the field names of the section at a location such as ("training",)."""
    section: Any = Settings
    for part in location:
        fields = getattr(section, "model_fields", None)
        section = _section_class(fields[part].annotation if fields and part in fields else section)
    fields = getattr(section, "model_fields", {})
    return list(fields)


def _section_class(annotation: Any) -> Any:
    """Return the Section inside an annotation such as dict[str, DatasetOptions]."""
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return annotation


def _explain(fault: Any) -> str:
    location = tuple(fault["loc"])
    where = ".".join(str(part) for part in location) or "configuration"
    if fault["type"] == "extra_forbidden":
        known = known_fields(location[:-1])
        return f"{where}: unknown key.{nearest_hint(str(location[-1]), known)}"
    message = fault["msg"].removeprefix("Value error, ")
    hint = ""
    if fault["type"] == "literal_error":
        hint = nearest_hint(str(fault["input"]), re.findall(r"'([^']*)'", fault["ctx"]["expected"]))
    given = "" if fault["type"] == "value_error" else f" (given: {fault['input']!r})"
    return f"{where}: {message}{given}{hint}" if location else message


def _override(
    section: Any, overrides: Mapping[str, Mapping[str, Any]], keys: tuple[str, ...], name: str
) -> Any:
    """Return `section` with the overrides under `keys` applied in order, validated anew."""
    values = section.model_dump()
    for key in keys:
        values.update(overrides.get(key, {}))
    try:
        return type(section).model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        part = str(fault["loc"][0])
        culprit = next((key for key in keys if part in overrides.get(key, {})), keys[-1])
        hint = nearest_hint(part, type(section).model_fields)
        what = f"unknown key.{hint}" if fault["type"] == "extra_forbidden" else fault["msg"]
        raise ValueError(f"{name}.{culprit}.{part}: {what}") from None


def _check(check: Any, *values: Any) -> None:
    """Run a check of another module and pass its message on to pydantic."""
    try:
        check(*values)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None


def _check_named(
    section: str,
    used: list[str],
    options: Mapping[str, Any],
    options_section: str,
    any_name: bool = False,
) -> None:
    """Refuse options for a name that nothing uses and that is close to one in use."""
    for name in options:
        hint = nearest_hint(name, used)
        if name not in used and hint and not (any_name and name in SOURCES):
            raise ValueError(f"{options_section}.{name}: not among {section}.{hint}")


def _model_names() -> list[str]:
    from espalier.models.registry import names

    return names()


def _pruner_names() -> tuple[str, ...]:
    from espalier.pruning.registry import names

    return names()


def _known_model(architecture: str) -> None:
    from espalier.models.registry import module_of

    module_of(architecture)


def _known_recipe(training: Training) -> None:
    from espalier.training.recipe import Recipe

    Recipe(**training.model_dump(exclude={"first_checkpoint"}))


def _known_pruner(name: str, options: Mapping[str, Any]) -> None:
    from espalier.pruning.registry import option_names

    known = option_names(name)
    for option in options:
        if option not in known:
            raise unknown_name(f"option of pruner {name!r}", option, known)


def _known_in_prediction(section: Prediction) -> None:
    from espalier.prediction import names

    for expression in (*section.features, *section.learner_features, *section.class_features):
        names.check_features(expression)
    for protocol in (*section.protocols, *section.honest):
        names.check_name("protocol", protocol, names.PROTOCOLS)
    for regressor in (*section.regressors, *section.learners):
        names.check_name("regressor", regressor, names.REGRESSORS)
    names.check_name("classifier", section.classifier, names.CLASSIFIERS)
    for field, value in section:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ConfigurationError(f"prediction.{field} lists something more than once")


def _known_detector(name: str, options: Mapping[str, Any]) -> None:
    from espalier.hierarchy.detectors import options_of

    options_of(name, options)


def default_yaml() -> str:
    """Return config/config.yaml: every default, with the description of each key above it."""
    lines = [
        "# Generated by `python -m espalier.config` from src/espalier/config.py; edit freely,",
        "# the defaults are those of the default experiment. Keys: config/README.md.",
        "",
    ]
    _yaml_section(Settings(), 0, lines)  # type: ignore[call-arg]
    return "\n".join(lines) + "\n"


def _yaml_section(section: Section, depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        description = textwrap.wrap(field.description or "", 96 - 2 * depth)
        lines.extend(f"{indent}# {line}" for line in description)
        if isinstance(value, Section):
            lines.append(f"{indent}{name}:")
            _yaml_section(value, depth + 1, lines)
        else:
            flow = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
            lines.append(
                f"{indent}{name}: {flow.removesuffix(chr(10)).removesuffix('...').strip()}"
            )
        if depth == 0:
            lines.append("")


def schema_yaml() -> str:
    """Return config/schemas/config.schema.yaml: the JSON schema of the settings."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
    }
    return "# Generated by `python -m espalier.config` from src/espalier/config.py.\n" + (
        yaml.safe_dump(schema, sort_keys=False, width=100)
    )


def main(root: str = ".") -> None:
    """Write the default configuration and its schema below `root`."""
    from espalier.files import write_text

    write_text(Path(root) / "config/config.yaml", default_yaml())
    write_text(Path(root) / "config/schemas/config.schema.yaml", schema_yaml())


if __name__ == "__main__":
    main(*sys.argv[1:])
