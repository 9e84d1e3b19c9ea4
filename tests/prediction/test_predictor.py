"""The predictor to keep: what it predicts, how sure it is, its file, and the ranking it serves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from prediction_pools import published_folder, synthetic_pool
from torch import nn

from espalier.errors import ConfigurationError, DataError, EspalierError
from espalier.files import read_npz, write_npz
from espalier.prediction.predictor import (
    Predictor,
    fit,
    interval_coverage,
    read_predictor,
    write_predictor,
)
from espalier.prediction.published import TMLR_MODELS, TMLR_PRUNERS, read_published
from espalier.prediction.rank_pruners import (
    COLUMNS,
    PUBLISHED_PREDICTOR,
    pruners_before_training,
    published_predictor,
    rank_pruners,
)


@pytest.fixture(scope="module")
def pool() -> pd.DataFrame:
    models = tuple("abcd")
    return synthetic_pool(models=models, datasets=("x", "y", "z"), seeds=2)


@pytest.fixture(scope="module")
def predictor(pool: pd.DataFrame) -> Predictor:
    return fit(pool)


# -- fitting and predicting ----------------------------------------------------------------------


def test_trees_are_those_of_scikit_learn(pool: pd.DataFrame) -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    from espalier.prediction.features import feature_matrix
    from espalier.prediction.predictor import _exported

    x = feature_matrix(pool, "topometrics+dataset").values
    forest = ExtraTreesRegressor(3, random_state=0).fit(x, pool["drop"].to_numpy())
    elsewhere = np.random.default_rng(0).normal(size=(200, x.shape[1]))
    for tree in forest.estimators_:
        ours = _exported(tree.tree_)
        for rows in (x, elsewhere):
            assert ours.predict(rows)[:, 0] == pytest.approx(tree.predict(rows), abs=1e-7)


def test_jackknife_interval_by_hand(predictor: Predictor, pool: pd.DataFrame) -> None:
    row = pool.iloc[[5]]
    found = predictor.predict(row.iloc[0].to_dict(), 0.8)
    by_fold = predictor.predict_folds(row)[0]
    groups = predictor.residual_groups
    count = len(np.unique(groups))
    bounds = sorted(
        (by_fold[fold] + residual, 1 / ((count + 1) * (groups == group).sum()))
        for fold, residual, group in zip(
            predictor.residual_folds, predictor.residuals, groups, strict=True
        )
    )
    reached = np.cumsum([weight for _, weight in bounds])
    assert reached[-1] == pytest.approx(count / (count + 1))
    assert found.high == pytest.approx(bounds[int((reached < 0.8 - 1e-9).sum())][0])
    assert found.value == pytest.approx(by_fold.mean())
    assert found.low <= found.value <= found.high


def test_folds_never_see_their_own_groups(predictor: Predictor, pool: pd.DataFrame) -> None:
    for fold in np.unique(predictor.residual_folds):
        mine = predictor.residual_folds == fold
        changed = pool.copy()
        changed.loc[mine, "drop"] += 10
        refitted = fit(changed).predict_folds(pool)[:, fold]
        assert refitted == pytest.approx(predictor.predict_folds(pool)[:, fold])
        if fold == 2:
            break
    assert len(np.unique(pool[["dataset", "model"]].agg("-".join, axis=1))) == 12
    assert predictor.highest_level == pytest.approx(12 / 13)


def test_higher_levels_are_wider(predictor: Predictor, pool: pd.DataFrame) -> None:
    lengths = []
    for level in (0.3, 0.6, 0.9):
        table = predictor.predict_table(pool, level)
        lengths.append((table["high"] - table["low"]).to_numpy())
    assert (lengths[0] <= lengths[1]).all() and (lengths[1] <= lengths[2]).all()
    with pytest.raises(ConfigurationError, match=r"at most 0\.923"):
        predictor.predict_table(pool, 0.95)


def test_intervals_cover_groups_that_were_left_out(pool: pd.DataFrame) -> None:
    found = interval_coverage(pool, level=0.8, trees=5)
    assert found["networks"].sum() == len(pool)
    assert found["covered"].mean() >= 0.7
    assert (found["length"] > 0).all()


def test_same_seed_same_bytes(pool: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_predictor(tmp_path / f"{name}.npz", fit(pool))
    write_predictor(tmp_path / "other.npz", fit(pool, seed=1))
    one, two, other = ((tmp_path / f"{n}.npz").read_bytes() for n in ("one", "two", "other"))
    assert one == two != other


def test_what_lies_outside_is_told(predictor: Predictor, pool: pd.DataFrame) -> None:
    inside = pool.iloc[:1]
    strange = inside.assign(dataset="w", motif=pool["motif"].max() + 1)
    none, two = predictor.outside(pd.concat([inside, strange]))
    assert none == []
    assert two[0].startswith("motif is ") and two[1] == "dataset w is none of x, y, z"


def test_bad_input_is_refused(predictor: Predictor, pool: pd.DataFrame) -> None:
    row = pool.iloc[0].to_dict()
    with pytest.raises(DataError, match="'cut-edges'"):
        predictor.predict({k: v for k, v in row.items() if k != "cut-edges"})
    with pytest.raises(DataError, match="Did you mean 'cut_edges'"):
        predictor.predict({k.replace("cut-", "cut_"): v for k, v in row.items()})
    with pytest.raises(DataError, match="finite"):
        predictor.predict({**row, "motif": float("nan")})
    with pytest.raises(DataError, match="not a number"):
        predictor.predict({**row, "motif": "many"})
    with pytest.raises(DataError, match="repeated"):
        fit(pd.concat([pool, pool.iloc[:1]]))
    with pytest.raises(DataError, match="motif"):
        fit(pool.assign(motif=np.where(pool.index == 3, np.nan, pool["motif"])))
    with pytest.raises(DataError, match="drop"):
        fit(pool.assign(drop=np.nan))
    with pytest.raises(DataError, match="one combination"):
        fit(pool[(pool["model"] == "a") & (pool["dataset"] == "x")])
    with pytest.raises(ConfigurationError, match="feature set"):
        fit(pool, "topometric")
    with pytest.raises(ConfigurationError, match="trees"):
        fit(pool, trees=0)


# -- files ---------------------------------------------------------------------------------------


def test_a_file_gives_the_same_predictions(
    predictor: Predictor, pool: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "predictor.npz"
    write_predictor(path, predictor, {"seed": 0})
    again = read_predictor(path)
    assert again.columns == predictor.columns and again.scores == predictor.scores
    pd.testing.assert_frame_equal(again.predict_table(pool), predictor.predict_table(pool))


def test_reading_and_predicting_need_no_scikit_learn() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from espalier.prediction.rank_pruners import published_predictor, _typical\n"
        "p = published_predictor(); print(p.predict_table(_typical(p)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 3)"


def rewritten(path: Path, arrays: dict[str, np.ndarray], **metadata: object) -> None:
    old, facts = read_npz(path)
    write_npz(path, {**old, **arrays}, {**facts, **metadata})


def test_damaged_files_are_refused(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.npz"

    def refused(match: str, arrays: dict[str, np.ndarray], **metadata: object) -> None:
        write_predictor(path, predictor)
        rewritten(path, arrays, **metadata)
        with pytest.raises(DataError, match=match):
            read_predictor(path)

    trees = predictor.trees
    circle = trees.right.copy()
    circle[0] = 0
    beyond = trees.feature.copy()
    beyond[0] = 999
    refused("has version 2", {}, version=2)
    refused("not a predictor", {}, kind="something")
    refused("damaged", {}, columns=[["motif"]])
    refused("no child", {"right": circle})
    refused("a column that is not there", {"feature": beyond})
    refused("length", {"value": trees.value[:-1]})
    refused("type float64", {"right": trees.right.astype(float)})
    refused("follow", {"roots": trees.roots[::-1].copy()})
    refused("no fold", {"folds": trees.folds[:-1]})
    refused("finite", {"value": np.full_like(trees.value, np.nan)})
    refused("size", {"residuals": -predictor.residuals - 1})
    refused("residual has no fold", {"residual_folds": predictor.residual_folds + 99})
    write_predictor(path, predictor)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="not a readable NPZ"):
        read_predictor(path)
    with pytest.raises(DataError, match="does not exist"):
        read_predictor(tmp_path / "none.npz")


def test_the_predictor_of_the_package_is_that_of_the_published_tables(root: Path) -> None:
    ours = published_predictor()
    assert ours.encoding["convention"] == "published"
    assert ours.scores["r2"] > 0.65
    table = read_published(
        published_folder(root), models=TMLR_MODELS, pruners=TMLR_PRUNERS, names="project"
    ).table
    fresh = fit(table, encoding=ours.encoding)
    assert len(table) == len(ours.residuals) == 1247
    found, expected = (p.predict_table(table) for p in (ours, fresh))
    assert np.abs(found - expected).to_numpy().mean() < 0.01
    assert PUBLISHED_PREDICTOR.stat().st_size < 300_000


# -- ranking before training ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6), nn.ReLU(),
        nn.Linear(6, 3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(8, 1, 4, 4, generator=generator), torch.arange(8) % 3) for _ in range(4)]


def test_ranking_is_that_of_the_predicted_drops(
    network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    before = {k: v.clone() for k, v in network.state_dict().items()}
    table = rank_pruners(network, (1, 4, 4), 0.7, batches, pruners=["erk", "snip", "uniform"])
    assert tuple(table.columns[: len(COLUMNS)]) == COLUMNS
    assert sorted(table["pruning"]) == ["erk", "snip", "uniform"]
    assert table["drop"].is_monotonic_increasing and table["rank"].iloc[0] == 1
    assert (table["rank_low"] <= table["rank_high"]).all()
    assert table["achieved_sparsity"].to_numpy() == pytest.approx(0.7, abs=0.02)
    assert (table["problem"] == "").all()
    assert table["outside"].str.contains("dataset  is none of").all()
    again = published_predictor().predict_table(table)
    assert again["value"].to_numpy() == pytest.approx(table["drop"].to_numpy())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_ranking_does_not_depend_on_the_other_pruners(
    network: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    few, more = (
        rank_pruners(network, (1, 4, 4), 0.7, iter(batches), pruners=names).set_index("pruning")
        for names in (["snip", "uniform"], ["erk", "synflow", "snip", "uniform"])
    )
    for name in ("snip", "uniform"):
        assert few.loc[name, "drop"] == more.loc[name, "drop"]
        assert few.loc[name, "motif"] == more.loc[name, "motif"]


def test_a_pruner_that_fails_is_told_and_comes_last(
    network: nn.Module,
    batches: list[tuple[torch.Tensor, torch.Tensor]],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    own = tmp_path / "hopeless.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "from espalier.errors import DataError\n"
        "WHEN = 'before'\n"
        "@dataclass(frozen=True)\n"
        "class Options: ...\n"
        "def prune(request, sparsity, options):\n"
        "    raise DataError('no way')\n"
    )
    pruners = ["erk", "uniform", str(own)]
    table = rank_pruners(network, (1, 4, 4), 0.7, batches, pruners=pruners)
    assert table["problem"].tolist() == ["", "", "no way"]
    assert table["rank"].iloc[-1] is pd.NA and table["rank"].iloc[0] == 1
    assert "no way" in capsys.readouterr().err
    with pytest.raises(EspalierError, match=r"only 1 pruner could be measured.*no way"):
        rank_pruners(network, (1, 4, 4), 0.7, batches, pruners=["erk", str(own)])


def test_what_cannot_be_ranked_is_refused(
    network: nn.Module,
    batches: list[tuple[torch.Tensor, torch.Tensor]],
    pool: pd.DataFrame,
) -> None:
    def refused(match: str, **changes: object) -> None:
        arguments: dict[str, object] = {"pruners": ["erk", "uniform"], **changes}
        sparsity = arguments.pop("sparsity", 0.7)
        with pytest.raises(ConfigurationError, match=match):
            rank_pruners(network, (1, 4, 4), sparsity, batches, **arguments)  # type: ignore[arg-type]

    refused("two or more", pruners=["erk"])
    refused("twice", pruners=["erk", "erk"])
    refused("acts after training", pruners=["erk", "magnitude"])
    refused("Did you mean 'snip'", pruners=["erk", "snipp"])
    refused("sparsity is 1.5", sparsity=1.5)
    refused("level is 0.99", level=0.99)
    stability = fit(pool.assign(layer_density=0.5), "topometrics+layer-density")
    unknown = replace(stability, columns=(replace(stability.columns[0], name="jaccard_init"),))
    refused("jaccard_init", predictor=unknown)


def test_every_pruner_before_training_is_there() -> None:
    found = pruners_before_training()
    assert {"er", "erk", "grasp", "prospr", "snip", "synflow", "uniform"} <= set(found)
    assert not {"magnitude", "rigl", "dsr"} & set(found)
