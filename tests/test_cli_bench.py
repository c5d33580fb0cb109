"""The benchmark's commands, over engines without a model."""

import json
import re

import pandas as pd
import pytest
from typer.testing import CliRunner

from lab.__main__ import app
from lab.bench.run_files import read_run, write_run
from lab.config import REGISTRY
from tests import fakes
from tests.runs import BEGAN, synthetic_run


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """The command line with fake workers, and a folder of its own for runs."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LAB_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("lab.cli.output.console.width", 200)  # it has read the variable when it was imported
    monkeypatch.setattr("lab.cli.bench.WORKER", fakes.FAKE_WORKER)
    for module in ("bench", "checks"):
        monkeypatch.setattr(f"lab.cli.{module}.probe", lambda _kind: fakes.CPU)
    monkeypatch.setattr("lab.bench.measure.probe", lambda _kind: fakes.CPU)
    monkeypatch.setattr("lab.cli.checks.EnginePool", lambda weights, _device, **settings: fakes.fake_pool(weights.name, **settings))

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def last_json(result):
    return json.loads(result.stdout.splitlines()[-1])


def stored(folder, **settings):
    return write_run(synthetic_run(**settings), folder / "runs")


# --- bench


def test_bench_writes_a_run_and_ends_with_one_json_document(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_WORKER_MS", json.dumps({"baseline": 200.0, "optimized": 150.0}))
    result = cli("bench", "--configs", "baseline,optimized", "--texts", "short", "--rounds", 8, "--launches", 1, "--json")
    assert result.exit_code == 0, result.output
    document = last_json(result)
    run = read_run(tmp_path / "runs" / document["run"].rsplit("/", 1)[-1])
    assert run.state == "complete"
    (pair,) = document["pairs"]
    assert {name: pair[name] for name in ("a", "b", "verdict")} == {"a": "optimized", "b": "baseline", "verdict": "faster"}
    assert pair["median_ratio"] == pytest.approx(0.75, abs=0.02)
    assert pair["ci95"][0] < pair["median_ratio"] < pair["ci95"][1]
    assert set(document["aa"]) >= {"a", "b", "median_ratio", "ci95", "verdict"}
    assert document["invalid"] == 0
    assert re.search(r"faster by 2[45]\.\d%", result.stdout)
    assert "p99" in result.stdout


def test_rounds_are_spread_over_six_launches_unless_told_otherwise(cli):
    assert read_run_of(cli("bench", "--configs", "baseline", "--texts", "short", "--rounds", 7, "--json")).plan.launches == 6
    assert read_run_of(cli("bench", "--configs", "baseline", "--texts", "short", "--rounds", 2, "--json")).plan.launches == 2


def read_run_of(result):
    from pathlib import Path

    return read_run(Path(last_json(result)["run"]))


def test_all_measures_every_configuration_and_marks_what_did_not_engage(cli):
    result = cli("bench", "--configs", "all", "--texts", "birch", "--rounds", 1, "--json")
    assert result.exit_code == 0, result.output
    assert {arm.config for arm in read_run_of(result).arms} == set(REGISTRY)


def test_a_configuration_that_gives_no_sample_is_in_the_exit_code(cli, monkeypatch):
    monkeypatch.setitem(REGISTRY, "dead", REGISTRY["upstream"].override(nfe=99).__class__("dead", nfe=99, tf32=False))
    result = cli("bench", "--configs", "baseline,dead", "--texts", "birch", "--rounds", 1, "--json")
    assert result.exit_code == 1
    assert "These weights are incomplete" in result.output
    assert last_json(result)["invalid"] == 2


def test_an_own_voice_has_no_name_in_the_run(cli, tmp_path):
    from lab.voices import default_voice

    voice = default_voice("demo")
    clip = tmp_path / "my-secret-name.wav"
    clip.write_bytes(voice.path.read_bytes())
    result = cli(
        "bench",
        "--voice",
        clip,
        "--voice-text",
        voice.transcript,
        "--consent",
        "--configs",
        "baseline",
        "--texts",
        "birch",
        "--rounds",
        1,
        "--json",
    )
    assert result.exit_code == 0, result.output
    assert read_run_of(result).voice.id == "own voice"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--configs", "fast"), "no configuration 'fast'"),
        (("--texts", "huge"), "no text or set 'huge'"),
        (("--rounds", "0"), "--rounds 0"),
        (("--rounds", "3", "--launches", "4"), "--launches 4 has to be from 1 to 3"),
        (("--voice", "nobody"), "no such voice"),
        (("--weights", "nothing"), "no weights 'nothing'"),
        (("--reference-cache", "hot"), "warm or cold"),
        (("--cluster", "local:many"), "write local:N"),
    ],
)
def test_bad_input_gives_a_message_exit_code_two_and_no_file(cli, tmp_path, arguments, message):
    result = cli("bench", *arguments, "--json")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert message in last_json(result)["error"]
    assert list((tmp_path / "runs").glob("*")) == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(cli, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli("bench", "--out", tmp_path / "file" / "sub")
    assert result.exit_code == 2


# --- gate


def test_the_gate_passes_and_fails_by_its_exit_code(cli, tmp_path):
    before = stored(tmp_path, rounds=20)
    same = stored(tmp_path, rounds=20, seed=2, began=BEGAN + 60)
    slower = stored(tmp_path, rounds=20, seed=3, began=BEGAN + 120, times={"optimized": 70.0})
    passed = cli("bench", "gate", "--baseline", before, "--candidate", same, "--json")
    assert passed.exit_code == 0, passed.output
    assert last_json(passed)["passed"] is True
    failed = cli("bench", "gate", "--baseline", before.stem, "--candidate", slower.stem, "--max-slowdown", "10%", "--json")
    assert failed.exit_code == 1
    assert {row["config"] for row in last_json(failed)["rows"] if row["state"] == "slower"} == {"optimized"}
    assert cli("bench", "gate", "--baseline", before, "--candidate", slower, "--max-slowdown", "80%").exit_code == 0


def test_a_gate_without_its_runs_is_refused(cli, tmp_path):
    stored(tmp_path)
    assert cli("bench", "gate", "--baseline", "nothing", "--candidate", "latest").exit_code == 2
    assert cli("bench", "gate", "--baseline", "latest", "--candidate", "latest", "--max-slowdown", "lots").exit_code == 2


# --- runs


def test_runs_are_listed_and_damaged_files_are_named(cli, tmp_path):
    path = stored(tmp_path)
    (tmp_path / "runs" / "broken.json").write_text('{"version": 2')
    result = cli("runs", "list", "--json")
    assert result.exit_code == 0
    document = last_json(result)
    assert [row["run"] for row in document["runs"]] == [path.stem]
    assert [item["path"].endswith("broken.json") for item in document["skipped"]] == [True]
    assert "Skipped broken.json" in result.stderr


def test_an_empty_folder_has_no_runs_and_is_no_error(cli):
    assert last_json(cli("runs", "list", "--json")) == {"runs": [], "skipped": []}
    assert cli("runs", "show").exit_code == 2


def test_a_run_is_shown_whole(cli, tmp_path):
    stored(tmp_path, configs="baseline,optimized,golden", times={"golden": 400.0})
    result = cli("runs", "show", "--reference", "optimized", "--json")
    assert result.exit_code == 0, result.output
    document = last_json(result)
    assert [(pair["a"], pair["b"]) for pair in document["pairs"]] == [("baseline", "optimized"), ("golden", "optimized")]
    assert {row["configuration"] for row in document["statistics"]} >= {"baseline", "golden"}
    assert all(len(row["fixed ms"]) == 3 for row in document["fits"])
    assert "first utterance" in result.stdout
    assert cli("runs", "show", "--reference", "upstream").exit_code == 2


def test_two_runs_are_compared_side_by_side(cli, tmp_path):
    from tests.runs import machine

    a, b = stored(tmp_path), stored(tmp_path, began=BEGAN + 60, on=machine(python="3.12.3"))
    result = cli("runs", "compare", a.stem, b.stem, "--json")
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in last_json(result)["differences"]] == ["python"]
    assert cli("runs", "compare", a.stem).exit_code == 2


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_samples_are_exported(cli, tmp_path, ending):
    stored(tmp_path)
    stored(tmp_path, began=BEGAN + 60)
    out = tmp_path / f"samples.{ending}"
    result = cli("runs", "export", out, "--json")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out) if ending == "csv" else pd.read_parquet(out)
    assert len(table) == last_json(result)["rows"]
    assert table["run"].nunique() == 2
    assert cli("runs", "export", tmp_path / "samples.xls").exit_code == 2


def test_the_schema_is_printed_for_people(cli):
    assert "| `stages_ms` |" in cli("runs", "schema").stdout


# --- report, validate, profile


def test_the_report_is_written_checked_and_found_out_of_date(cli, tmp_path):
    stored(tmp_path, configs="baseline,fp16-vocoder", rounds=30, times={"fp16-vocoder": 46.0})
    out = tmp_path / "STATUS.md"
    assert cli("report", "--out", out, "--check").exit_code == 1
    assert not out.exists()
    result = cli("report", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    claims = {row["claim"]: row["verdict"] for row in last_json(result)["claims"]}
    assert claims["fp16-vocoder"] == "confirmed"
    assert claims["together"] == "not measured here"
    assert "confirmed" in out.read_text()
    assert cli("report", "--out", out, "--check").exit_code == 0
    stored(tmp_path, began=BEGAN + 60)
    assert cli("report", "--out", out, "--check").exit_code == 1


def test_validate_prints_a_line_for_each_check_and_fails_when_one_does(cli):
    result = cli("validate", "--texts", "birch", "--rounds", 6, "--json")
    assert result.exit_code == 1  # engines without a model prove nothing
    document = last_json(result)
    assert document["passed"] is False
    states = {line["check"]: line["state"] for line in document["lines"]}
    assert states["optimized: mean RTF < 0.20"] == "pass"
    assert states["compile: torch.compile engaged"] == "fail"
    assert re.search(r"\d+ pass, \d+ fail, \d+ not applicable here", result.stdout)


def test_validate_can_leave_the_targets_out(cli):
    lines = last_json(cli("validate", "--rounds", 0, "--json"))["lines"]
    assert not any("RTF" in line["check"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("profile", "fast"), "no configuration"), (("profile", "upstream", "--out", "x.txt"), "has to end in .json")],
)
def test_a_profile_that_cannot_be_made_is_refused(cli, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    "command",
    [
        ("bench",),
        ("bench", "gate"),
        ("runs",),
        ("runs", "list"),
        ("runs", "show"),
        ("runs", "compare"),
        ("runs", "export"),
        ("validate",),
        ("profile",),
        ("report",),
    ],
)
def test_help_is_complete(cli, command):
    result = cli(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
