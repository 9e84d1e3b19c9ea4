"""Configuration, input functions and wildcard constraints; nothing heavy is imported here."""

import os
import sys
from functools import cache
from pathlib import Path

sys.path.insert(
    0, os.path.normpath(os.path.join(workflow.current_basedir, "../../src"))
)

from espalier import config as settings_of
from espalier.data.prepare import all_mirrors
from espalier.errors import EspalierError
from espalier.figures import catalogue
from espalier.figures.catalogue import PUBLISHED_HEADING
from espalier.figures.needs import PREDICTION, TABLES
from espalier.hubs.options import BY_CENTRALITY
from espalier.models.registry import module_of as module_of_model
from espalier.prediction.folder import published_files
from espalier.pruning.registry import module_of as module_of_pruner
from espalier.provenance import code_of as digest_of_code
from espalier.provenance import remember_code
from espalier.sculpting import experiments as sculpting

try:
    SETTINGS = settings_of.load(config)
except EspalierError as error:
    # The message alone: Snakemake would add the places in the code that an exception passed.
    sys.exit(f"error: {error}")
# Scripts read what only says where to run (device, mirrors) from `config`, defaults filled in.
config.update(SETTINGS.model_dump(mode="json"))
# The front page of a report reads `config` too.
config["versions"] = catalogue.versions()
SCRIPTS = os.path.normpath(os.path.join(workflow.current_basedir, "../scripts"))
SPARSITIES = [settings_of.sparsity_token(sparsity) for sparsity in SETTINGS.sparsities]
CHECKPOINTS = list(range(SETTINGS.checkpoints))
LAST_CHECKPOINT = CHECKPOINTS[-1]
# Where results are made, not what they are: a change of these reruns nothing.
NOT_IN_RESULTS = {"mirrors", "device", "jobs_per_gpu", "graph_tool_python"}
# Jobs inherit it. A variable that the user has set wins.
os.environ.setdefault("ESPALIER_JOBS_PER_GPU", str(SETTINGS.jobs_per_gpu))
GPUS = int(SETTINGS.device == "cuda")
SCULPTED = SETTINGS.sculpted_networks() if "sculpting" in SETTINGS.analyses else []
FUNCTIONS = {
    sculpting.function_label(function): function for _, function, _ in SCULPTED
}
OTHER_DETECTORS = [name for name in SETTINGS.detectors if name != "nested_sbm"]


def pruners(when):
    """The pruners that act before, during or after training."""
    return [name for name in SETTINGS.pruners if SETTINGS.acts(name) == when]


def any_of(names):
    """A constraint that lets these names through, and nothing where there are none."""
    return "|".join(names) or "none"


wildcard_constraints:
    dataset="|".join(SETTINGS.datasets),
    model="|".join(SETTINGS.models),
    pruner="|".join(["dense", *SETTINGS.pruners]),
    sparsity=r"0|0\.[0-9]+",
    seed="[0-9]+",
    checkpoint="[0-9]+",
    detector=any_of(OTHER_DETECTORS),
    figure="[a-z0-9_]+",
    form=r"npz|edges\.npz|graphml\.gz",
    pool="(?:published/)?",
    table="[a-z0-9_]+",
    encoding="unrolled|rolled|rolled-channel",
    protocol="[a-z-]+",
    learner="[a-z_]+",
    target="category|pruner",
    task="drop|pruners",
    hub_run=r"[A-Za-z0-9_-]+(\.[0-9]+)?",
    hub_search="wide|semi_narrow|narrow",
    variant=any_of(SETTINGS.sculpting.variants),
    function=any_of(FUNCTIONS),
    hidden="[0-9]+(?:-[0-9]+)*",


@cache
def code_of(script, *modules):
    """Digest of a script, the given modules and all that they import inside espalier."""
    roots = (Path(SCRIPTS) / f"{script}.py", *modules)
    remember_code(os.getcwd(), *roots)
    return digest_of_code(*roots)


@cache
def code_of_model(model):
    """The module of a network, which the library loads by name."""
    architecture = SETTINGS.model(model).architecture
    return module_of_model(architecture).removeprefix("espalier.")


def network_code(wildcards):
    return code_of_model(wildcards.model)


def code_with_network(script):
    """As `code_of`, with the module of the network."""

    def code(wildcards):
        return code_of(script, network_code(wildcards))

    return code


def source_files(wildcards):
    """The user's own folder or NPZ behind a data set, so that Snakemake watches it."""
    path = SETTINGS.dataset(wildcards.dataset).path
    return [path] if path else []


def dataset_options(wildcards):
    return SETTINGS.dataset(wildcards.dataset).model_dump(exclude={"truth", "splits"})


def truth_file(wildcards):
    return SETTINGS.dataset(wildcards.dataset).truth


def splits_of(wildcards):
    return SETTINGS.dataset(wildcards.dataset).splits


def network_of(wildcards):
    return SETTINGS.model(wildcards.model).model_dump()


def recipe_of(wildcards):
    pruner = wildcards.get("pruner", "dense")
    recipe = SETTINGS.recipe(wildcards.dataset, wildcards.model, pruner)
    return recipe.model_dump()


def pruning_of(wildcards):
    return SETTINGS.pruning_of(wildcards.dataset, wildcards.model, wildcards.pruner)


def scoring_of(wildcards):
    """What shapes the masks of a pruner that acts before or after training."""
    keys = {"algorithm", "batch_size", "exclude", "options"}
    return pruning_of(wildcards).model_dump(include=keys)


def rewiring_of(wildcards):
    """What shapes the masks of a pruner that acts during training."""
    keys = {"algorithm", "batch_size", "exclude", "options", "mask_history"}
    return pruning_of(wildcards).model_dump(include=keys)


def regularisation_of(wildcards):
    """What shapes training before pruning; the pruner's own options do not."""
    pruning = pruning_of(wildcards)
    return {
        "strengths": [
            settings_of.strength_at(pruning, sparsity)
            for sparsity in SETTINGS.sparsities
        ],
        "prune_at": pruning.prune_at,
        "epochs": pruning.epochs,
    }


def finetuning_of(wildcards):
    return {
        "epochs": pruning_of(wildcards).epochs,
        "last_checkpoint": LAST_CHECKPOINT,
    }


def code_with_pruner(script):
    """As `code_of`, with the modules of the pruner and of the network."""

    def code(wildcards):
        pruner = module_of_pruner(SETTINGS.algorithm(wildcards.pruner))
        return code_of(
            script, pruner.removeprefix("espalier."), network_code(wildcards)
        )

    return code


def detector_code(wildcards):
    return code_of("detect_hierarchies", f"hierarchy.detectors.{wildcards.detector}")


def detector_options(wildcards):
    return SETTINGS.detector_options.get(wildcards.get("detector", "nested_sbm"), {})


def networks_of(wildcards):
    """(sparsity, name of the file without extension) of each network of one seed."""
    if wildcards.pruner == "dense":
        return [("0", f"seed{wildcards.seed}.checkpoint{k}") for k in CHECKPOINTS]
    return [(sparsity, f"seed{wildcards.seed}") for sparsity in SPARSITIES]


def metrics_files(wildcards):
    sparsities = ["0"] if wildcards.pruner == "dense" else SPARSITIES
    stem = f"<results>/metrics/{wildcards.dataset}/{wildcards.model}/{wildcards.pruner}"
    return [f"{stem}/{sparsity}/seed{wildcards.seed}.json" for sparsity in sparsities]


def hierarchy_files(wildcards):
    """The JSON records of every hierarchy of one (dataset, model, pruner, seed)."""
    stem = (
        f"<results>/hierarchy/{wildcards.dataset}/{wildcards.model}/{wildcards.pruner}"
    )
    files = [
        f"{stem}/{sparsity}/{network}.{detector}.json"
        for detector in SETTINGS.detectors
        for sparsity, network in networks_of(wildcards)
    ]
    if wildcards.pruner == "dense" and SETTINGS.shuffled:
        files.append(
            f"{stem}/0/seed{wildcards.seed}.checkpoint{LAST_CHECKPOINT}"
            ".nested_sbm_shuffled.json"
        )
    return files


def tree_files(wildcards):
    return [f"{path.removesuffix('.json')}.nwk" for path in hierarchy_files(wildcards)]


def distance_files():
    return [
        f"<results>/distances/{dataset}/{model}/{pruner}/seed{seed}.csv"
        for dataset in SETTINGS.datasets
        for model in SETTINGS.models
        for pruner in ["dense", *SETTINGS.pruners]
        for seed in SETTINGS.seeds
    ]


def baseline_files():
    return [f"<results>/baselines/{dataset}.npz" for dataset in SETTINGS.datasets]


def example_network(wildcards):
    """The converged dense network of the first seed."""
    file = f"seed{SETTINGS.seeds[0]}.checkpoint{LAST_CHECKPOINT}"
    return f"{wildcards.dataset}/{wildcards.model}/dense/0/{file}"


def example_graph(wildcards):
    return f"<results>/coactivation/{example_network(wildcards)}.npz"


def example_hierarchy(wildcards):
    detector = (
        "nested_sbm" if "nested_sbm" in SETTINGS.detectors else SETTINGS.detectors[0]
    )
    return f"<results>/hierarchy/{example_network(wildcards)}.{detector}.json"


def all_metrics_files():
    """The metrics of every network at the end of its training."""
    names = [("dense", "0")]
    names += [(pruner, share) for pruner in SETTINGS.pruners for share in SPARSITIES]
    return [
        f"<results>/metrics/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.json"
        for dataset in SETTINGS.datasets
        for model in SETTINGS.models
        for pruner, sparsity in names
        for seed in SETTINGS.seeds
    ]


def topometrics_files():
    return [
        f"<results>/topometrics/{dataset}/{model}/{pruner}/seed{seed}.csv"
        for dataset in SETTINGS.datasets
        for model in SETTINGS.models
        for pruner in SETTINGS.pruners
        for seed in SETTINGS.seeds
    ]


def hub_run_of(wildcards):
    """The fields of one run of the hub study."""
    return vars(SETTINGS.hub_runs(wildcards.dataset)[wildcards.hub_run])


def hub_study(wildcards):
    keys = {"protocol", "preset", "snapshot_every"}
    return SETTINGS.hubs_of(wildcards.dataset).model_dump(include=keys)


def hub_recipe(wildcards):
    return SETTINGS.hubs_of(wildcards.dataset).training.model_dump(exclude={"epochs"})


def hub_reference(wildcards):
    """The record of the run whose removals a control repeats."""
    reference = hub_run_of(wildcards)["options"].get("reference")
    stem = f"<results>/hubs/{wildcards.dataset}/{wildcards.model}"
    return [f"{stem}/{reference}/seed{wildcards.seed}.json"] if reference else []


def hub_threshold(wildcards):
    """The choice of the search that gives a run its k."""
    search = hub_run_of(wildcards)["search"]
    stem = f"<results>/hubs/{wildcards.dataset}/{wildcards.model}"
    return [f"{stem}/{search}.threshold.json"] if search else []


def hub_search_records(wildcards):
    runs = SETTINGS.hub_runs(wildcards.dataset).values()
    stem = f"<results>/hubs/{wildcards.dataset}/{wildcards.model}"
    return [
        f"{stem}/{run.name}/seed{seed}.json"
        for run in runs
        if run.protocol == wildcards.hub_search
        for seed in SETTINGS.seeds
    ]


def hub_thresholds():
    """Whether any run of the hub study has a threshold k."""
    return any(
        run.search or "k" in run.options
        for dataset in SETTINGS.hub_networks()
        for run in SETTINGS.hub_runs(dataset).values()
    )


def hub_files(extension, searches=True):
    """One file of every run of the hub study, those of threshold searches included or not."""
    if "hubs" not in SETTINGS.analyses:
        return []
    return [
        f"<results>/hubs/{dataset}/{model}/{run.name}/seed{seed}.{extension}"
        for dataset, models in SETTINGS.hub_networks().items()
        for model in models
        for run in SETTINGS.hub_runs(dataset).values()
        if searches or run.protocol in ("comparison", "published")
        for seed in SETTINGS.seeds
    ]


def hub_examples():
    """Of each network of the hub study one run: the first that judges units by centrality."""
    stems = []
    for dataset, models in SETTINGS.hub_networks().items():
        runs = list(SETTINGS.hub_runs(dataset).values())
        by_centrality = [run for run in runs if run.options["method"] in BY_CENTRALITY]
        for run in (by_centrality or runs)[:1]:
            ending = f"{run.name}.seed{SETTINGS.seeds[0]}"
            stems += [f"hub_network.{dataset}.{model}.{ending}" for model in models]
    return stems


def masks_files():
    return [
        f"<results>/masks/{dataset}/{model}/{pruner}/{sparsity}/seed{seed}.npz"
        for dataset in SETTINGS.datasets
        for model in SETTINGS.models
        for pruner in SETTINGS.pruners
        for sparsity in SPARSITIES
        for seed in SETTINGS.seeds
    ]


def published_source():
    """The published tables' files, and why there are none if so."""
    return published_files(SETTINGS.prediction.published, all_mirrors(SETTINGS.mirrors))


def networks_table(wildcards):
    encoding = wildcards.get("encoding", "unrolled")
    suffix = "" if encoding == "unrolled" else f"_{encoding}"
    return f"<results>/{wildcards.pool}tables/topometrics{suffix}.csv"


def design_of(paper):
    """The paper whose models and pruners are taken from the published pool."""

    def design(wildcards):
        return paper if wildcards.pool else None

    return design


def design_of_task(wildcards):
    return design_of("tmlr" if wildcards.task == "drop" else "arxiv")(wildcards)


def prediction_options(*keys):
    return SETTINGS.prediction.model_dump(mode="json", include=set(keys))


def acts_of_pruners(wildcards):
    """When each pruner acts, for the categories of a classification."""
    names = [] if wildcards.pool else SETTINGS.pruners
    return {name: SETTINGS.acts(name) for name in names}


def regression_parts(wildcards):
    """Published networks have three encodings, of which the papers regress linearly."""
    stem = f"<results>/{wildcards.pool}prediction/regression"
    chosen = SETTINGS.prediction
    return [
        f"{stem}/{encoding}/{protocol}/{learner}.csv"
        for encoding in (chosen.encodings if wildcards.pool else ["unrolled"])
        for protocol in chosen.protocols
        for learner in ["averaged", *chosen.learners]
        if encoding == "unrolled" or learner == "averaged"
    ]


def prediction_parts(wildcards):
    stem = f"<results>/{wildcards.pool}prediction/out_of_fold"
    return [f"{stem}/{protocol}.csv" for protocol in SETTINGS.prediction.honest]


def classification_parts(wildcards):
    stem = f"<results>/{wildcards.pool}prediction/classification"
    return [f"{stem}/{target}.csv" for target in SETTINGS.prediction.targets]


def prediction_tables():
    names = ["topometrics", "regression", "ablation", "predictions", "calibration"]
    names += ["classification", "importance", "ranking"]
    compared = ["ranking_tables", "comparison"]
    return [
        f"<results>/{folder}tables/{name}.csv"
        for pool in SETTINGS.prediction.pools
        for folder in ["published/" if pool == "published" else ""]
        for name in [*names, *(compared if pool == "published" else [])]
    ]


def function_of(wildcards):
    """A published name, a digit task or the path of a YAML file."""
    return FUNCTIONS[wildcards.function]


def function_file(wildcards):
    """The user's own function graph, so that Snakemake watches it."""
    function = function_of(wildcards)
    return [function] if sculpting.is_file(function) else []


def hidden_of(wildcards):
    return list(sculpting.hidden_of_label(wildcards.hidden))


def sculpting_recipe(wildcards):
    return SETTINGS.sculpting_recipe(
        wildcards.variant, function_of(wildcards), tuple(hidden_of(wildcards))
    )


def sculpting_options(wildcards):
    keys = {"seeds", "unit_steps", "edge_steps", "control", "rules", "engine"}
    keys.add("images_per_pair")
    section = SETTINGS.sculpting_of(wildcards.variant, function_of(wildcards))
    return section.model_dump(include=keys)


def null_networks(wildcards):
    section = SETTINGS.sculpting_of(wildcards.variant, function_of(wildcards))
    return section.null_networks


def module_records():
    """The modules of every variant, function and shape of hidden layers."""
    return [
        f"<results>/modules/{variant}/{sculpting.function_label(function)}/"
        f"{sculpting.hidden_label(hidden)}.json"
        for variant, function, hidden in SCULPTED
    ]


def sculpting_figures():
    """Rates by family, densities; of each function its graph and one network of two layers."""
    drawn = sculpting.drawn_variant(SETTINGS.sculpting.variants)
    shapes = {}
    for variant, function, hidden in SCULPTED:
        if variant == drawn:
            shapes.setdefault((variant, function), []).append(hidden)
    stems = [
        f"success_{family}"
        for family in sculpting.families_of(function for _, function in shapes)
    ]
    stems.append("pruned_densities")
    for (variant, function), hidden in shapes.items():
        label = sculpting.function_label(function)
        if function not in sculpting.DIGIT_FUNCTIONS:
            stems.append(f"function_graph.{label}")
        shape = next((shape for shape in hidden if len(shape) == 2), hidden[-1])
        seed = SETTINGS.sculpting_of(variant, function).seeds[0]
        stems.append(
            f"pruned_network.{variant}.{label}.{sculpting.hidden_label(shape)}.seed{seed}"
        )
    return stems


def tables_of_figure(wildcards):
    return list(TABLES[wildcards.figure])


def table_files(wildcards):
    return [f"<results>/tables/{name}.csv" for name in tables_of_figure(wildcards)]


def published_table_files(wildcards):
    return [
        f"<results>/published/tables/{name}.csv" for name in tables_of_figure(wildcards)
    ]


def prediction_figures():
    """The figures of every pool; own layers have densities alone, no Ramanujan measures."""
    own = [name for name in PREDICTION if PREDICTION[name] != ("layers",)]
    stems = {"own": ("figures", own), "published": ("published/figures", PREDICTION)}
    return [
        f"<results>/{folder}/{name}.{extension}"
        for folder, names in map(stems.get, SETTINGS.prediction.pools)
        for name in names
        for extension in ("svg", "png")
    ]


def chosen_rows(wildcards):
    return {
        "dataset": wildcards.dataset,
        "model": wildcards.model,
        "normalised": SETTINGS.encoding.normalise,
    }


def tables():
    predicted = prediction_tables() if "prediction" in SETTINGS.analyses else []
    return predicted + [
        f"<results>/tables/{name}.csv"
        for analysis in SETTINGS.analyses
        if analysis != "prediction"
        for name in catalogue.REPORTED[analysis]
    ]


def figures():
    by_model = []
    stems = []
    if "hierarchy" in SETTINGS.analyses:
        stems += [
            "training_curve",
            "sparsity_vs_rf",
            "accuracy_vs_rf",
            "detector_comparison",
        ]
        by_model += ["coactivation_graph", "facing_trees"]
        if "nested_sbm" in SETTINGS.detectors:
            by_model.append("radial_hierarchy")
    if "accuracy" in SETTINGS.analyses:
        stems.append("accuracy_by_sparsity")
    if "topometrics" in SETTINGS.analyses:
        by_model.append("topometric_trends")
    if "hubs" in SETTINGS.analyses:
        stems += [
            "centrality_distribution",
            "centrality_spread",
            "hub_methods",
            "hub_ablation",
        ]
        if hub_thresholds():
            stems.append("threshold_search")
        stems += hub_examples()
    if "sculpting" in SETTINGS.analyses:
        stems += sculpting_figures()
    stems += [
        f"{figure}.{dataset}.{model}"
        for figure in by_model
        for dataset in SETTINGS.datasets
        for model in SETTINGS.models
    ]
    paths = prediction_figures() if "prediction" in SETTINGS.analyses else []
    return paths + [
        f"<results>/figures/{stem}.{extension}"
        for stem in stems
        for extension in ("svg", "png")
    ]


def table_pages():
    """The page of every table that a report shows."""
    pages = {
        f"<results>/tables/{table}.html"
        for analysis in SETTINGS.analyses
        for table in catalogue.REPORTED[analysis]
        if analysis != "prediction" or "own" in SETTINGS.prediction.pools
    }
    if "prediction" in SETTINGS.analyses and "published" in SETTINGS.prediction.pools:
        reported = catalogue.REPORTED["prediction"] + catalogue.REPORTED_OF_PUBLISHED
        pages |= {f"<results>/published/tables/{table}.html" for table in reported}
    return sorted(pages)


def heading_of_table(wildcards):
    if wildcards.pool:
        return PUBLISHED_HEADING
    return catalogue.heading_of_table(wildcards.table)


def heading_of_figure(wildcards):
    return catalogue.heading_of_figure(wildcards.figure)


def labels_of_table(wildcards):
    pool = " (published)" if wildcards.pool else ""
    return {"table": wildcards.table + pool}


def labels_of_figure(wildcards):
    names = ("figure", "dataset", "model")
    return {name: wildcards[name] for name in names if name in wildcards.keys()}
