"""The command line: what it prints and writes, and errors without tracebacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from espalier.cli import main
from espalier.files import read_table, write_table
from espalier.topology.topometrics import TOPOMETRICS

RANK = ["rank", "--model", "mlp-64-12-10", "--dataset", "digits", "--sparsity", "0.8"]
FEW = [*RANK, "--pruners", "er, uniform,snip"]


def test_rank_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for name in ("one.csv", "two.csv"):
        assert main([*FEW, "--out", str(tmp_path / name)]) == 0
        outputs.append((tmp_path / name).read_bytes())
    said = capsys.readouterr()
    assert "mlp-64-12-10 on digits at sparsity 0.8" in said.out
    assert "unlike all that the predictor saw" in said.err and "published edges" in said.err
    assert outputs[0] == outputs[1]
    table = read_table(tmp_path / "one.csv")
    assert sorted(table["pruning"]) == ["er", "snip", "uniform"]
    assert table["rank"].min() == 1
    assert table.attrs["provenance"]["seed"] == 0


def pool_file(path: Path) -> Path:
    import pandas as pd

    generator = np.random.default_rng(0)
    rows = [
        {"pruning": p, "sparsity": 0.8, "model": m, "dataset": "digits", "seed": s}
        for p in ("er", "snip")
        for m in map(str, range(10))
        for s in range(2)
    ]
    table = pd.DataFrame(rows)
    for name in (*TOPOMETRICS, "drop"):
        table[name] = generator.random(len(table))
    write_table(path, table, {"seed": 0})
    return path


def test_a_fitted_predictor_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = pool_file(tmp_path / "pool.csv"), tmp_path / "predictor.npz"
    assert main(["fit-predictor", "--table", str(table), "--out", str(out)]) == 0
    assert "40 networks" in capsys.readouterr().out
    assert main([*FEW, "--predictor", str(out)]) == 0
    assert "published edges" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*RANK, "--pruners", "er"], "two or more"),
        ([*RANK, "--pruners", "er,snipp"], "Did you mean 'snip'"),
        ([*RANK, "--pruners", "er,magnitude"], "acts after training"),
        ([*FEW, "--predictor", "no/such/file.npz"], "does not exist"),
        ([*FEW, "--level", "0.99"], "level is 0.99"),
        ([*FEW, "--batch-size", "0"], "--batch-size"),
        ([*FEW, "--sparsity", "1.2"], "sparsity is 1.2"),
        ([*FEW, "--model", "smal_cnn"], "Did you mean 'small_cnn'"),
        ([*FEW, "--dataset", "digit"], "Did you mean 'digits'"),
        ([*FEW, "--model", "mlp-63-12-10"], "64"),
        (["fit-predictor", "--table", "no.csv", "--out", "x.npz"], "does not exist"),
        (["fit-predictor", "--published", "nowhere", "--out", "x.npz"], "holds no .csv"),
    ],
)
def test_errors_are_one_line_without_traceback(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"espalier {arguments[0]}: ") and message in said
    assert "Traceback" not in said


def test_damaged_files_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"PK\x03\x04 not an archive")
    assert main([*FEW, "--predictor", str(damaged)]) == 1
    assert "not a readable NPZ" in capsys.readouterr().err
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    out = str(tmp_path / "x.npz")
    assert main(["fit-predictor", "--table", str(empty), "--out", out]) == 1
    assert "not a readable table" in capsys.readouterr().err
    table = pool_file(tmp_path / "pool.csv")
    renamed = table.read_text().replace("cut-edges", "bridges")
    table.write_text(renamed.split("\n", 1)[1])
    assert main(["fit-predictor", "--table", str(table), "--out", out]) == 1
    assert "cut-edges" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["rank"], ["grow"], [*RANK, "--sparsity", "much"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: espalier" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from espalier.cli import build_parser; build_parser().format_help()\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'pandas', 'sklearn')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
