from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest


def loaded(path):
    """A script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[path.stem]
    return module


@pytest.fixture(scope="module")
def runner(root):
    return loaded(root / "tools/run_benchmarks.py")


@pytest.fixture(scope="module")
def records(root):
    return loaded(root / "benchmarks/records.py")


def of(*ratios, command="python benchmarks/a.py"):
    rows = [{"name": name, "alternative": "other", "ratio": ratio} for name, ratio in ratios]
    return {"a": {"command": command, "ratios": rows}}


@pytest.mark.parametrize(
    ("before", "now", "flagged"),
    [
        (of(("x", 9.0)), of(("x", 9.0)), []),
        (of(("x", 9.0)), of(("x", 6.01)), []),
        (of(("x", 9.0)), of(("x", 6.0)), ["x against other"]),
        (of(("x", 9.0)), of(("x", 90.0)), []),
        (of(("x", 9.0), ("y", 0.3)), of(("x", 1.0), ("y", 0.1)), ["x against", "y against"]),
        (of(("x", 9.0), ("y", 2.0)), of(("x", 9.0)), ["gone   y"]),
        (of(("x", 9.0)), of(("x", 9.0), ("y", 0.1)), []),
        ({}, of(("x", 0.1)), []),
        (of(("x", 9.0)), {}, []),
        (of(("x", 9.0)), of(("x", 1.0), command="python benchmarks/a.py --small"), []),
    ],
)
def test_a_ratio_that_fell_by_a_third_or_is_gone_is_flagged(runner, before, now, flagged):
    lines = runner.fallen(before, now)
    assert len(lines) == len(flagged)
    assert all(what in line for what, line in zip(flagged, lines, strict=True))


def run_with(monkeypatch, runner, folder, ratio, *arguments):
    """The runner's exit status, with one benchmark that finds this ratio."""
    row = {
        "name": "x", "ratio": ratio, "low": ratio, "high": ratio, "n": 1, "ours": 1.0,
        "theirs": ratio, "unit": "CPU s", "alternative": "other", "extrapolated": False,
    }  # fmt: skip
    entry = {
        "claim": "Fast.",
        "command": "python benchmarks/a.py",
        "machine": {"processor": "P", "cores": 2, "system": "Linux"},
        "versions": {"Python": "3.11"},
        "load": 0.5,
        "ratios": [row],
    }
    monkeypatch.setattr(runner, "ROOT", folder)
    monkeypatch.setattr(runner, "RECORD", folder / "record.json")
    monkeypatch.setattr(runner, "PAGE", folder / "performance.md")
    monkeypatch.setattr(runner, "BENCHMARKS", (runner.Benchmark("a"),))
    monkeypatch.setattr(runner, "run", lambda benchmark, limit: entry)
    monkeypatch.setattr(sys, "argv", ["run_benchmarks.py", *arguments])
    return runner.main()


def test_a_fall_leaves_the_record_alone_until_it_is_accepted(monkeypatch, runner, tmp_path, capsys):
    def recorded():
        return json.loads((tmp_path / "record.json").read_text())["a"]["ratios"][0]["ratio"]

    assert run_with(monkeypatch, runner, tmp_path, 9.0) == 0
    assert recorded() == 9.0
    assert "**9**" in (tmp_path / "performance.md").read_text()
    assert run_with(monkeypatch, runner, tmp_path, 5.0) == 1
    assert "x against other" in capsys.readouterr().out
    assert recorded() == 9.0
    assert run_with(monkeypatch, runner, tmp_path, 5.0, "--accept") == 0
    assert recorded() == 5.0


def test_a_benchmark_that_fails_is_not_recorded(monkeypatch, runner, tmp_path, capsys):
    def failing(benchmark, limit):
        raise RuntimeError("ended with status 1")

    monkeypatch.setattr(runner, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(runner, "BENCHMARKS", (runner.Benchmark("a"), runner.Benchmark("b")))
    monkeypatch.setattr(runner, "run", failing)
    monkeypatch.setattr(sys, "argv", ["run_benchmarks.py", "--only", "a"])
    assert runner.main() == 1
    assert "a: failed, it ended with status 1" in capsys.readouterr().out
    assert not (tmp_path / "record.json").exists()


def test_what_is_not_installed_is_skipped_by_name(monkeypatch, runner, tmp_path, capsys):
    assert runner.missing(["json", "no_such_module"]) == ["no_such_module"]
    absent = runner.Benchmark("a", needs=("no_such_module",))
    monkeypatch.setattr(runner, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(runner, "BENCHMARKS", (absent,))
    monkeypatch.setattr(sys, "argv", ["run_benchmarks.py"])
    assert runner.main() == 0
    assert "a: skipped, no_such_module is not installed" in capsys.readouterr().out


def test_a_process_that_outlives_its_time_is_ended(monkeypatch, runner, tmp_path):
    (tmp_path / "benchmarks").mkdir()
    script = tmp_path / "benchmarks/slow.py"
    script.write_text('"""Claim: slow."""\nimport time\ntime.sleep(60)\n')
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="more than 1 s"):
        runner.run(runner.Benchmark("slow"), 1)


def test_a_benchmark_appends_its_ratios_to_the_named_file(
    root, monkeypatch, runner, records, tmp_path
):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/records.py").write_bytes((root / "benchmarks/records.py").read_bytes())
    (tmp_path / "benchmarks/a.py").write_text(
        '"""What it is about.\n\nClaim: twice\nas fast.\n\nHow."""\n'
        "from records import machine, record\n"
        'print(machine("numpy", other="1.0"))\n'
        'record("x", [1.0, 2.0, 4.0], [3.0, 4.0, 4.0], "CPU s", "other")\n'
    )
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    found = runner.run(runner.Benchmark("a", ("--quick",)), 60)
    assert found["claim"] == "Twice as fast."
    assert found["command"] == "python benchmarks/a.py --quick"
    assert found["versions"]["other"] == "1.0"
    assert found["machine"]["processor"] == records.processor()
    [row] = found["ratios"]
    assert (row["ratio"], row["low"], row["high"], row["n"]) == (2.0, 1.0, 3.0, 3)
    assert (row["ours"], row["theirs"]) == (2.0, 4.0)


def test_without_the_variable_nothing_is_recorded(monkeypatch, records, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(records.VARIABLE, raising=False)
    records.record("x", [1.0], [2.0], "CPU s", "other")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="shorter"):
        records.record("x", [1.0, 2.0], [2.0], "CPU s", "other")


def test_lines_of_several_processes_do_not_mix(root, records, tmp_path):
    call = (
        "from records import record\n"
        "for _ in range(200): record('x' * 500, [1.0], [2.0], 'CPU s', 'other')"
    )
    environment = {"PYTHONPATH": str(root / "benchmarks"), records.VARIABLE: str(tmp_path / "all")}
    processes = [subprocess.Popen([sys.executable, "-c", call], env=environment) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = (tmp_path / "all").read_text().splitlines()
    assert len(lines) == 600
    assert all(json.loads(line)["ratio"] == 2.0 for line in lines)


def test_the_committed_page_is_that_of_the_record(root, runner):
    record = json.loads((root / "benchmarks/record.json").read_text())
    assert (root / "docs/performance.md").read_text() == runner.page(record)
    commands = {benchmark.name: benchmark.command for benchmark in runner.BENCHMARKS}
    assert record.keys() <= commands.keys()
    assert all(len(entry["ratios"]) > 0 for entry in record.values())


def test_every_benchmark_is_run(root, runner):
    scripts = {path.stem for path in (root / "benchmarks").glob("*.py")} - {"records"}
    assert scripts == {benchmark.name for benchmark in runner.BENCHMARKS}
    for name in scripts:
        source = (root / f"benchmarks/{name}.py").read_text()
        assert "import machine" in source and "record(" in source, name
        assert "CLAIM_TEXT" not in runner.claim_of(root / f"benchmarks/{name}.py"), name
