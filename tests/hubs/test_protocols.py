from __future__ import annotations

import pandas as pd
import pytest

from espalier.errors import ConfigurationError, DataError
from espalier.hubs.protocols import SEARCH_COLUMNS, planned_runs, search_table, threshold_grid
from espalier.hubs.tables import accuracy_row, published_layout, training_rows

WIDE = {"low": 0, "high": 4, "step": 0.5, "epochs": 50}


def test_the_grids_of_the_paper():
    assert threshold_grid(0, 4, 0.5) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    assert threshold_grid(2, 3, 0.1)[3] == 2.3 and len(threshold_grid(2, 3, 0.1)) == 11
    assert threshold_grid(2, 4, 0.4) == [2.0, 2.4, 2.8, 3.2, 3.6, 4.0]
    assert threshold_grid(1, 1, 1) == [1.0]
    with pytest.raises(ConfigurationError, match="has no threshold"):
        threshold_grid(2, 1, 0.5)


def test_a_plan_has_the_methods_and_every_threshold():
    options = {
        "censet": {"k": "wide"},
        "by_strength": {"method": "strength", "k": 2},
        "random": {"reference": "censet"},
    }
    methods = ["set", "censet", "by_strength", "random"]
    runs = planned_runs(methods, options, 200, {"wide": WIDE}, {"preset": "cenbench"})
    assert list(runs)[:4] == methods and list(runs)[4:6] == ["wide-0", "wide-0.5"]
    assert runs["censet"].search == "wide" and runs["censet"].method_options(1.5).k == 1.5
    assert runs["by_strength"].method_options().method == "strength"
    assert runs["random"].reference == "censet"
    assert runs["wide-2.5"].epochs == 50 and runs["wide-2.5"].protocol == "wide"
    assert runs["wide-2.5"].method_options().preset == "cenbench"
    assert {run.protocol for run in runs.values()} == {"comparison", "wide"}
    published = planned_runs(["set"], {}, 5, protocol="published")
    assert published["set"].protocol == "published"


@pytest.mark.parametrize(
    ("methods", "options", "searches", "message"),
    [
        (["sett"], {}, {}, "Did you mean 'set'"),
        (["censet"], {}, {}, "'censet' needs option 'k'"),
        (["censet"], {"censet": {"k": "wide"}}, {}, "unknown search that gives k to 'censet'"),
        (["random"], {"random": {"reference": "censet"}}, {}, "'censet', which is not among"),
        (["set"], {}, {"widest": WIDE}, "unknown threshold search 'widest'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(methods, options, searches, message):
    with pytest.raises(ConfigurationError, match=message):
        planned_runs(methods, options, 5, searches)
    with pytest.raises(ConfigurationError, match="Did you mean 'published'"):
        planned_runs(["set"], {}, 5, protocol="publishd")


def runs_of(search, accuracies, selected_on="validation"):
    """Rows of a search; accuracies by k: (validation, test) of every seed."""
    return pd.DataFrame(
        {
            "dataset": "digits",
            "model": "m",
            "method": "censet",
            "protocol": search,
            "k": k,
            "seed": seed,
            "validation_accuracy": validation,
            "accuracy": test,
            "selected_on": selected_on,
        }
        for k, pairs in accuracies.items()
        for seed, (validation, test) in enumerate(pairs)
    )


ACCURACIES = {
    1.0: [(0.80, 0.90), (0.82, 0.92)],
    2.0: [(0.84, 0.70), (0.84, 0.72)],
    3.0: [(0.90, 0.60), (0.70, 0.60)],
    4.0: [(0.83, 0.80), (0.85, 0.80)],
}


def test_k_is_chosen_on_validation_images_over_all_seeds():
    table = search_table(runs_of("wide", ACCURACIES))
    assert list(table.columns) == SEARCH_COLUMNS
    assert table["seeds"].tolist() == [2] * 4
    assert table["validation_accuracy"].tolist() == pytest.approx([0.81, 0.84, 0.80, 0.84])
    assert table.loc[table["chosen"], "k"].tolist() == [4.0], "of equal ones the larger"
    assert table["test_sd"].iloc[0] == pytest.approx(0.02 / 2**0.5)


def test_published_chooses_on_the_test_images_and_says_so():
    table = search_table(runs_of("wide", ACCURACIES, "test"))
    assert table.loc[table["chosen"], "k"].tolist() == [1.0]
    assert set(table["selected_on"]) == {"test"}


def test_every_search_has_its_own_choice_and_other_runs_none():
    parts = [runs_of("wide", ACCURACIES), runs_of("narrow", {2.1: [(0.5, 0.5)]})]
    table = search_table(pd.concat([*parts, runs_of("comparison", {2.1: [(1.0, 1.0)]})]))
    assert table.groupby("protocol")["chosen"].sum().to_dict() == {"narrow": 1, "wide": 1}
    assert table[table["protocol"] == "narrow"]["validation_sd"].isna().all()
    assert search_table(runs_of("comparison", ACCURACIES)).empty
    with pytest.raises(DataError, match="'wide' have no validation accuracy"):
        search_table(runs_of("wide", {1.0: [(None, 0.5)]}))


def record(seed=0, method="set", protocol="comparison", k=None):
    def epoch(number):
        return {
            "epoch": number,
            "train_loss": None if number == 0 else 1 / number,
            "validation_accuracy": None,
            "test_accuracy": number / 100 + seed / 1000,
            "connections": [50, 30, 10],
            "centrality_mean": 1.0 + number,
            "centrality_sd": 2.0,
            **(
                {"changes": {"units": [1, 2, 0, 0], "edges": [number, 1, 0], "grown": [2, 1, 0]}}
                if 0 < number < 25
                else {}
            ),
        }

    return {
        "dataset": "digits",
        "model": "m",
        "method": method,
        "seed": str(seed),
        "protocol": protocol,
        "selected_on": "validation",
        "preset": "definition",
        "options": {"k": k, "fraction": None, "preset": "paper"},
        "epochs": [epoch(number) for number in range(26)],
    }


def test_a_row_of_accuracy_is_the_mean_of_the_last_ten_epochs():
    row = accuracy_row(record())
    assert row["accuracy"] == pytest.approx(0.205) and row["epochs"] == 25
    assert row["sd_last10"] == pytest.approx(0.0287228, abs=1e-6)
    assert row["validation_accuracy"] is None
    assert row["connections"] == 90 and row["sparse_connections"] == 80
    assert row["removed_neurons"] == 72 and row["removed_edges"] == 300 + 24
    rows = training_rows(record())
    assert len(rows) == 26 and rows[3]["removed_edges"] == 4 and rows[25]["removed_edges"] == 0


def test_the_layout_has_a_cell_per_method_and_threshold():
    records = [record(seed) for seed in (0, 1)]
    records += [record(seed, "censet", "wide", 2.5) for seed in (0, 1)]
    runs = pd.DataFrame([accuracy_row(value) for value in records])
    epochs = pd.DataFrame([row for value in records for row in training_rows(value)])
    layout = published_layout(runs, epochs).set_index(["table", "row", "column"])
    cell = layout.loc[("4", "set", "accuracy (%)")]
    assert cell["mean"] == pytest.approx(20.55) and cell["seeds"] == 2
    assert cell["sd"] == pytest.approx(0.0707107, abs=1e-6)
    assert layout.loc[("4", "set", "connections"), "mean"] == 80
    assert layout.loc[("5", "mu - 2.5 sigma", "accuracy (%)"), "mean"] == pytest.approx(20.55)
    assert layout.loc[("9 or 10", "25", "set mean"), "mean"] == 26
    assert ("9 or 10", "25", "censet mean") not in layout.index
