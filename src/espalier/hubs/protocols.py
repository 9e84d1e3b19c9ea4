"""Which runs a study of CenSET has: threshold searches, then methods side by side.

Heath (2021), section 5.4, trains CenSET for every k of a grid, narrows the grid around the best k,
and reports the mean accuracy of the last 10 epochs on the test images that also chose k, one run
each. Here every k has several seeds, and k is chosen on validation images held out of the training
images; "published" chooses as the paper did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from espalier.errors import ConfigurationError, DataError, unknown_name
from espalier.hubs.options import REFERRING, MethodOptions, method_options

if TYPE_CHECKING:
    import pandas as pd

SEARCHES = ("wide", "semi_narrow", "narrow")
PROTOCOLS = ("validation", "published")
SEARCH_COLUMNS = [
    "dataset",
    "model",
    "protocol",
    "k",
    "seeds",
    "validation_accuracy",
    "validation_sd",
    "test_accuracy",
    "test_sd",
    "selected_on",
    "chosen",
]


@dataclass(frozen=True)
class Run:
    """One training, for every seed.

    Attributes:
        name: token in paths and, but for searches, the method's name in tables.
        protocol: "wide", "semi_narrow", "narrow", "comparison" or "published".
        epochs: how long.
        method: name of the method in tables.
        options: of the method; `k` is missing where a search gives it.
        search: name of the search that gives k.
    """

    name: str
    protocol: str
    epochs: int
    method: str
    options: dict[str, Any] = field(default_factory=dict)
    search: str | None = None

    @property
    def reference(self) -> str | None:
        """Name of the run whose removals this one repeats."""
        return self.options.get("reference")

    def method_options(self, k: float | None = None) -> MethodOptions:
        """Return the checked options, with the k that a search has chosen.

        Raises:
            ConfigurationError: as `espalier.hubs.options.MethodOptions`.
        """
        return method_options(self.options if k is None else {**self.options, "k": k})


def threshold_grid(low: float, high: float, step: float) -> list[float]:
    """Return low, low + step, ... up to high, without binary rounding in their decimals.

    Raises:
        ConfigurationError: a step that is not positive, or high below low.
    """
    start, stop, stride = (Decimal(str(value)) for value in (low, high, step))
    if stride <= 0 or stop < start:
        raise ConfigurationError(
            f"a search from {low:g} to {high:g} by {step:g} has no threshold; the step must be "
            "positive, and the end not below the start"
        )
    count = int((stop - start) / stride) + 1
    return [float(start + index * stride) for index in range(count)]


def planned_runs(
    methods: Iterable[str],
    options: Mapping[str, Mapping[str, Any]],
    epochs: int,
    searches: Mapping[str, Mapping[str, Any]] | None = None,
    search_options: Mapping[str, Any] | None = None,
    protocol: str = "validation",
) -> dict[str, Run]:
    """Return all runs by name: the methods, and one for every threshold of every search.

    Args:
        methods: names; each is a method, or its options say which method it is.
        options: per name, those of `MethodOptions`; `k` may be the name of a search, whose best
            threshold it then is.
        epochs: of the methods.
        searches: by name, "low", "high", "step" and "epochs".
        search_options: those of the searched method but k; {"method": "censet"} if left out.
        protocol: "validation" or "published".

    Raises:
        ConfigurationError: unknown names, options that do not fit, a search that is not there, or
            a control whose reference is not among the methods.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    runs: dict[str, Run] = {}
    found = dict(searches or {})
    kind = "published" if protocol == "published" else "comparison"
    for name in methods:
        given = {"method": name, **options.get(name, {})}
        search = given.pop("k") if isinstance(given.get("k"), str) else None
        if search is not None and search not in found:
            raise unknown_name(f"search that gives k to {name!r}:", search, found)
        run = Run(name, kind, epochs, name, given, search)
        run.method_options(1.0 if search else None)
        runs[name] = run
    for name, run in runs.items():
        if run.options["method"] in REFERRING and (
            run.reference not in runs or runs[run.reference].options["method"] in REFERRING
        ):
            raise ConfigurationError(
                f"method {name!r} repeats the removals of {run.reference!r}, which is not among "
                f"the methods that remove by themselves: {', '.join(runs)}"
            )
    base = {"method": "censet", **(search_options or {})}
    for search, values in found.items():
        if search not in SEARCHES:
            raise unknown_name("threshold search", search, SEARCHES)
        for k in threshold_grid(values["low"], values["high"], values["step"]):
            name = f"{search}-{k:g}"
            runs[name] = Run(name, search, int(values["epochs"]), base["method"], {**base, "k": k})
            runs[name].method_options()
    return runs


def search_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (dataset, model, search, k), with which k is chosen.

    Columns: dataset, model, protocol (the search), k, seeds, validation_accuracy,
    validation_sd, test_accuracy, test_sd, selected_on, chosen. Standard deviations are over seeds
    (ddof 1; empty for one seed). Of equal thresholds the larger is chosen: it removes less.

    Args:
        runs: rows of censet_accuracy.csv; those that are of no search are left out. Their
            selected_on, "validation" or "test", says by which accuracy k is chosen.

    Raises:
        DataError: the accuracy that chooses is missing.
    """
    import pandas as pd

    groups: dict[tuple[str, ...], dict[float, list[dict[str, Any]]]] = {}
    for row in runs.to_dict("records"):
        if row["protocol"] in SEARCHES:
            thresholds = groups.setdefault(tuple(row[key] for key in SEARCH_COLUMNS[:3]), {})
            thresholds.setdefault(row["k"], []).append(row)
    rows = []
    for names, thresholds in sorted(groups.items()):
        part = next(iter(thresholds.values()))[0]["selected_on"]
        found = [
            {
                **dict(zip(SEARCH_COLUMNS, [*names, k], strict=False)),
                "seeds": len(seeds),
                **_over_seeds("validation", [row["validation_accuracy"] for row in seeds]),
                **_over_seeds("test", [row["accuracy"] for row in seeds]),
                "selected_on": part,
            }
            for k, seeds in sorted(thresholds.items())
        ]
        if any(row[f"{part}_accuracy"] is None for row in found):
            raise DataError(
                f"runs of the search {names[-1]!r} have no {part} accuracy to choose k by"
            )
        best = max(found, key=lambda row: (row[f"{part}_accuracy"], row["k"]))
        rows += [{**row, "chosen": row is best} for row in found]
    return pd.DataFrame(rows, columns=pd.Index(SEARCH_COLUMNS))


def _over_seeds(part: str, values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None and value >= 0]
    return {
        f"{part}_accuracy": fmean(known) if len(known) == len(values) else None,
        f"{part}_sd": stdev(known) if len(known) > 1 else None,
    }
