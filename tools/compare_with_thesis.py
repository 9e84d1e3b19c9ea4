"""Print results/tables/rf_summary.csv beside Table 2 of the thesis (Fashion-MNIST), as Markdown.

    python tools/compare_with_thesis.py [results/tables/rf_summary.csv] [--detector nested_sbm]

The thesis' values are the means and standard deviations of unrooted Robinson-Foulds distances over
50 hierarchies of one network, and that network's test accuracy (Petkov 2021, Table 2).
"""

from __future__ import annotations

import argparse

import pandas as pd

from espalier.files import read_table

# sparsity: (accuracy in %, mean RF, sd) per model.
THESIS = {
    "small_cnn": {
        0.0: (91.88, 1.8, 1.07),
        0.5: (91.08, 2.16, 0.72),
        0.675: (89.12, 4.87, 0.36),
        0.75: (86.48, 4.02, 0.14),
        0.825: (83.6, 6.15, 0.69),
        0.9: (72.08, 5.0, 0.06),
    },
    "medium_cnn": {
        0.0: (93.8, 3.08, 1.72),
        0.5: (93.94, 3.76, 0.56),
        0.675: (92.38, 4.56, 1.62),
        0.75: (91.2, 4.36, 1.06),
        0.825: (89.52, 5.62, 1.19),
        0.9: (84.56, 2.72, 0.54),
    },
    "conv6_thesis": {
        0.0: (94.38, 6.26, 1.78),
        0.5: (94.24, 5.6, 1.26),
        0.675: (93.98, 6.36, 1.4),
        0.75: (93.8, 4.58, 1.8),
        0.825: (92.82, 6.26, 1.56),
        0.9: (90.22, 5.7, 1.02),
    },
}
COLUMNS = (
    "model",
    "sparsity",
    "accuracy, thesis",
    "accuracy, measured",
    "RF, thesis",
    "RF, measured",
    "CI (rooted)",
    "triplet",
    "AHMI",
)
MEASURES = {
    "CI (rooted)": "clustering_information_rooted",
    "triplet": "triplet",
    "AHMI": "adjusted_hierarchical_mutual_information",
}


def spread(mean: float, sd: float, digits: int) -> str:
    """Return "mean ± sd", or the mean alone where there is no sd."""
    return f"{mean:.{digits}f}" if pd.isna(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def rows(summary: pd.DataFrame, detector: str) -> list[list[str]]:
    """Return one row per network, and the star and random baselines of the first one."""
    table = []
    for _, row in summary[summary["detector"] == detector].iterrows():
        known = THESIS.get(row["model"], {}).get(row["sparsity"])
        accuracy, rf, sd = known if known else (float("nan"),) * 3
        measured = spread(100 * row["test_accuracy_mean"], 100 * row["test_accuracy_sd"], 2)
        table.append(
            [
                row["model"],
                f"{row['sparsity']:g}",
                f"{accuracy:.2f}",
                measured,
                spread(rf, sd, 2),
                spread(row["rf_unrooted_mean"], row["rf_unrooted_sd"], 2),
                *(spread(row[f"{m}_mean"], row[f"{m}_sd"], 3) for m in MEASURES.values()),
            ]
        )
    first = summary.iloc[0]
    for kind in ("star", "permuted", "random"):
        values = [f"{first[f'{m}_{kind}']:.3f}" for m in MEASURES.values()]
        table.append([f"*{kind}*", "", "", "", "", f"{first[f'rf_unrooted_{kind}']:.2f}", *values])
    return table


def main() -> None:
    """Read the summary and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("summary", nargs="?", default="results/tables/rf_summary.csv")
    parser.add_argument("--detector", default="nested_sbm")
    arguments = parser.parse_args()
    summary = read_table(arguments.summary)
    for line in (COLUMNS, ["---"] * len(COLUMNS), *rows(summary, arguments.detector)):
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
