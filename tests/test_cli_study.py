import csv
import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from lab.__main__ import app
from lab.listening import design
from lab.store import Store
from lab.study_store import Studies
from tests import fakes

CONFIGS = "upstream,upstream-nfe7"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with fakes.differing_pool(tmp_path_factory.mktemp("cache")) as pool:
        yield pool


class Kept:
    """A pool that stays when the command ends: starting workers is most of a test's time."""

    def __init__(self, pool):
        self.pool = pool

    def __enter__(self):
        return self.pool

    def __exit__(self, *_):
        pass


@pytest.fixture
def cli(pool, tmp_path, monkeypatch):
    """The command line with fake workers and a data folder of its own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LAB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)

    def engine(weights, _device, **settings):
        return Kept(pool) if weights.name == "demo" else fakes.fake_pool(weights.name, **settings)

    monkeypatch.setattr("lab.cli.study.EnginePool", engine)
    monkeypatch.setattr("lab.cli.study.probe", lambda _kind: fakes.CPU)

    def run(*arguments, **settings):
        return CliRunner().invoke(app, ["study", *map(str, arguments)], **settings)

    return run


@pytest.fixture
def studies(tmp_path):
    store = Store.open(tmp_path / "data", url=f"sqlite:///{tmp_path / 'data' / 'lab.sqlite3'}")
    yield Studies(store)
    store.close()


def last_json(result):
    return json.loads(result.stdout.splitlines()[-1])


def make(cli, *more, type="abx", configs=CONFIGS, texts="rice,glue"):
    """A study, made by the command."""
    result = cli("create", "--type", type, "--configs", configs, "--texts", texts, "--weights", "demo", "--trials", 8, "--json", *more)
    assert result.exit_code == 0, result.output
    return last_json(result)


def listen(studies, token, answer, listener="somebody", comment=""):
    """One listener's whole pass; `answer` gives the answer to a presentation. Returns the session."""
    manifest = studies.load(token).manifest
    session = studies.join(token, listener, lambda number: design.plan(manifest, number))
    for trial in session.trials:
        given = answer(trial.presentation)
        heard = dict.fromkeys(trial.presentation.labels, 2.5)
        key = f"{listener}-{trial.number}"
        assert studies.rate(session.token, trial.number, key=key, answer=given, heard=heard, seconds=4.25, comment=comment)
    return studies.session(session.token)


def test_create_prints_the_gate_and_the_link_and_ends_with_one_json_document(cli, studies):
    result = cli(
        *(
            "create",
            "--type",
            "abx",
            "--configs",
            CONFIGS,
            "--texts",
            "rice,glue",
            "--weights",
            "demo",
            "--voice",
            "demo-male",
            "--trials",
            12,
        ),
        *("--margin", 0.65, "--title", "Try this", "--seed", 4, "--other-seed", 8, "--no-own-results", "--open-until", "2999-01-01"),
        *("--address", "https://lab.example/", "--json"),
    )
    assert result.exit_code == 0, result.output
    document = last_json(result)
    assert set(document) == {"study", "link", "clips", "gate"}
    assert document["link"] == f"https://lab.example/listen?s={document['study']}"
    assert document["link"] in result.stdout.splitlines()[-2]
    assert "every sample is a number" in result.stdout
    assert {pair["text"] for pair in document["gate"]["pairs"]} > {"rice", "glue"}
    study = studies.load(document["study"])
    manifest = study.manifest
    assert study.open_until == datetime(2999, 1, 2, tzinfo=UTC)
    assert (manifest.trials, manifest.margin, manifest.title, manifest.seed, manifest.other_seed) == (12, 0.65, "Try this", 4, 8)
    assert (manifest.voice, manifest.thanks) == ("demo-male", False)
    assert document["clips"] == len({stimulus.sha256 for stimulus in manifest.stimuli})
    assert document["gate"] == manifest.gate


def test_texts_come_from_a_file_of_lines(cli, studies, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("One line.\n\nAnother line.\n")
    result = cli("create", "--type", "ab", "--configs", CONFIGS, "--text-file", file, "--weights", "demo", "--json")
    texts = studies.load(last_json(result)["study"]).manifest.texts
    assert [(text.id, text.text) for text in texts[:2]] == [("line 1", "One line."), ("line 3", "Another line.")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--type", "guess", "--configs", CONFIGS), "no test type 'guess'"),
        (("--type", "ab", "--configs", "upstream"), "2 to 6 configurations"),
        (("--type", "ab", "--configs", "upstream,fast"), "no configuration 'fast'"),
        (("--type", "ab", "--configs", CONFIGS, "--weights", "random:demo"), "noise"),
        (("--type", "ab", "--configs", CONFIGS, "--trials", 0), "1 to 200"),
        (("--type", "ab", "--configs", CONFIGS, "--margin", 7), "between 0.5 and 1"),
        (("--type", "ab", "--configs", CONFIGS, "--open-until", "2020-01-01"), "over already"),
        (("--type", "ab", "--configs", CONFIGS, "--texts", "nothing"), "no text or set"),
        (("--type", "ab", "--configs", CONFIGS, "--voice", "nobody"), "no such voice"),
        (("--type", "ab", "--configs", "upstream,vocoder-fp32:nfe=32", "--texts", "rice"), "That is the result"),
    ],
)
def test_what_cannot_be_made_gives_a_message_and_exit_code_two_and_stores_nothing(cli, studies, arguments, message):
    result = cli("create", *arguments, *(() if "--weights" in arguments else ("--weights", "demo")), "--json")
    assert result.exit_code == 2
    assert message in last_json(result)["error"]
    assert studies.list() == []


def test_list_and_show_say_what_there_is_and_nothing_of_the_answers(cli, studies):
    first, second = make(cli)["study"], make(cli, type="ab")["study"]
    listen(studies, first, lambda shown: "A", comment="a secret remark")
    rows = last_json(cli("list", "--json"))["studies"]
    assert [row["study"] for row in rows] == [second, first]
    assert rows[1]["configs"] == CONFIGS.split(",")
    result = cli("show", first, "--json")
    shown = last_json(result)
    assert (shown["listeners"], shown["with all trials answered"], shown["state"]) == (1, 1, "open")
    assert shown["ratings"] == len(design.plan(studies.load(first).manifest, 0))
    assert "secret" not in result.stdout
    assert shown["manifest"]["type"] == "abx"
    assert studies.load(first).peeked_at is None


def test_a_study_is_named_by_its_token_the_beginning_of_it_or_latest(cli):
    first, second = make(cli)["study"], make(cli)["study"]
    assert last_json(cli("show", "--json"))["study"] == second
    assert last_json(cli("show", "--json", "--", first[:10]))["study"] == first
    nothing = cli("show", "nothing")
    assert nothing.exit_code == 2
    assert "There is no study 'nothing'" in nothing.output


def test_without_a_study_every_command_says_so(cli):
    for command in (("show",), ("results",), ("close", "latest"), ("delete", "latest", "--yes"), ("export", "latest", "x.csv")):
        result = cli(*command)
        assert result.exit_code == 2, command
        assert "no study yet" in result.output
    assert last_json(cli("list", "--json")) == {"studies": [], "broken": []}


def test_a_study_that_was_altered_by_hand_is_named_by_list_and_can_be_deleted_and_the_others_go_on(cli, studies, tmp_path):
    whole, broken = make(cli)["study"], make(cli)["study"]
    with sqlite3.connect(tmp_path / "data" / "lab.sqlite3") as database:
        database.execute("update studies set manifest = replace(manifest, 'abx', 'ab') where token = ?", [broken])
    result = cli("list", "--json")
    assert result.exit_code == 0
    document = last_json(result)
    assert [row["study"] for row in document["studies"]] == [whole]
    assert [row["study"] for row in document["broken"]] == [broken]
    assert "does not match its SHA-256" in document["broken"][0]["reason"]
    assert result.output.count(f"manifest of study {broken} was altered") == 2
    assert last_json(cli("show", "--json"))["study"] == whole
    for command in ("show", "results", "close"):
        refused = cli(command, "--", broken[:12])
        assert refused.exit_code == 2
        assert f"manifest of study {broken} was altered" in refused.output
    assert last_json(cli("delete", "--yes", "--json", "--", broken)) == {"deleted": broken}
    assert last_json(cli("list", "--json"))["broken"] == []


def test_results_are_locked_until_the_study_is_closed(cli, studies):
    token = make(cli)["study"]
    for number in range(4):
        listen(studies, token, lambda shown: shown.x, f"listener-{number}")
    locked = cli("results", token)
    assert locked.exit_code == 2
    assert "locked" in locked.output
    assert studies.load(token).peeked_at is None
    assert cli("close", "--json", "--", token).exit_code == 0
    result = cli("results", "--json", "--", token)
    assert result.exit_code == 0, result.output
    document = last_json(result)
    assert document["study"] == token
    (compared,) = document["comparisons"]
    assert (compared["comparison"], compared["verdict"], compared["n"]) == ("upstream-nfe7", "different", 32)
    assert compared["p_value"] < 1e-6
    assert document["peeked"] is False
    assert document["headline"] in result.stdout


def test_peeking_is_recorded_and_shows_no_p_value(cli, studies):
    token = make(cli)["study"]
    listen(studies, token, lambda shown: shown.x)
    document = last_json(cli("results", "--peek", "--json", "--", token))
    assert document["decision"] == "anytime"
    assert document["comparisons"][0]["p_value"] is None
    assert studies.load(token).peeked_at is not None
    cli("close", "--", token)
    assert last_json(cli("results", "--json", "--", token))["decision"] == "anytime"


def test_looking_at_a_closed_study_with_peek_is_no_peeking(cli, studies):
    token = make(cli)["study"]
    cli("close", "--", token)
    assert last_json(cli("results", "--peek", "--json", "--", token))["decision"] == "fixed"
    assert studies.load(token).peeked_at is None


@pytest.mark.parametrize("type", ["ab", "abx", "acr", "ccr", "mushra", "staircase"])
def test_results_of_every_type_are_shown(cli, studies, type):
    token = make(cli, type=type, configs="upstream" if type == "staircase" else f"{CONFIGS},upstream-nfe4")["study"]
    for number in range(3):
        listen(studies, token, lambda shown: ANSWERS[type](shown), f"listener-{number}")
    cli("close", "--", token)
    result = cli("results", "--json", "--", token)
    assert result.exit_code == 0, result.output
    assert result.stdout.count(last_json(result)["headline"]) >= 2


ANSWERS = {
    "ab": lambda shown: "A",
    "abx": lambda shown: shown.x,
    "acr": lambda shown: 1 + shown.unit % 5,
    "ccr": lambda shown: (shown.unit + shown.slots[0]) % 7 - 3,
    "mushra": lambda shown: {label: 10 * place for place, label in enumerate(shown.labels) if label != "Reference"},
    "staircase": lambda shown: shown.x,
}


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_export_writes_a_row_per_rating_with_signs_corrected_and_no_listeners_name(cli, studies, tmp_path):
    token = make(cli, type="ccr")["study"]
    # whichever side it is on, the comparison is called two points worse
    listen(studies, token, lambda shown: -2 if is_straight(studies, token, shown) else 2, "jane@example.org", comment="=cmd|' /C calc'!A0")
    cli("close", "--", token)
    result = cli("export", "--json", "--", token, tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    rows = read_csv(tmp_path / "out.csv")
    plan = design.plan(studies.load(token).manifest, 0)
    assert len(rows) == len(plan) == last_json(result)["rows"]
    main = [row for row in rows if row["kind"] == "main"]
    assert {row["value"] for row in main} == {"-2.0"}
    assert {row["answer"] for row in main} == {"-2", "2"}
    assert {row["order"] for row in main} == {"reference first", "comparison first"}
    assert {row["comparison"] for row in main} == {"upstream-nfe7"}
    assert {row["text"] for row in main} == {"rice", "glue"}
    assert {(row["listener"], row["seconds"], row["revision"]) for row in rows} == {("1", "4.25", "0")}
    assert json.loads(main[0]["heard"]) == {"A": 2.5, "B": 2.5}
    assert set(json.loads(main[0]["shown"]).values()) == {"upstream", "upstream-nfe7"}
    assert {row["comment"][:2] for row in rows} == {"'="}
    assert "jane" not in (tmp_path / "out.csv").read_text()
    assert [row["trial"] for row in rows] == [str(number) for number in range(len(plan))]


def is_straight(studies, token, shown):
    return shown.slots[0] == studies.load(token).manifest.units[shown.unit].stimuli[0]


def test_export_as_json_holds_the_manifest_and_the_words_as_they_were_given(cli, studies, tmp_path):
    token = make(cli, type="mushra")["study"]
    session = listen(studies, token, ANSWERS["mushra"], comment="=1+1")
    cli("close", "--", token)
    assert cli("export", "--", token, tmp_path / "out.json").exit_code == 0
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["manifest"] == studies.load(token).manifest.model_dump(mode="json")
    first = [row for row in document["ratings"] if row["trial"] == 0]
    assert len(first) == len(session.trials[0].presentation.labels) - 1
    assert {row["comment"] for row in document["ratings"]} == {"=1+1"}
    roles = {row["role"] for row in first}
    assert roles == {"system", "other seed", "anchor 3.5 kHz", "anchor 7 kHz"}
    assert all(row["value"] == row["answer"] for row in document["ratings"] if row["kind"] == "main")


def test_a_corrected_answer_is_exported_with_its_revision(cli, studies, tmp_path):
    token = make(cli)["study"]
    manifest = studies.load(token).manifest
    session = studies.join(token, "x", lambda number: design.plan(manifest, number))
    for key, answer, revise in (("k1", "A", False), ("k2", "B", True)):
        studies.rate(session.token, 0, key=key, answer=answer, heard={}, seconds=1, revise=revise)
    cli("close", "--", token)
    cli("export", "--", token, tmp_path / "out.csv")
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["answer"], row["revision"]) == ("B", "1")


def test_export_of_an_open_study_is_refused_unless_peeking_which_is_recorded(cli, studies, tmp_path):
    token = make(cli)["study"]
    listen(studies, token, lambda shown: "A")
    refused = cli("export", "--", token, tmp_path / "out.csv")
    assert refused.exit_code == 2
    assert "--peek" in refused.output
    assert not (tmp_path / "out.csv").exists()
    assert studies.load(token).peeked_at is None
    assert cli("export", "--peek", "--", token, tmp_path / "out.csv").exit_code == 0
    assert studies.load(token).peeked_at is not None


def test_an_export_with_an_unknown_ending_is_refused_before_anything_is_recorded(cli, studies, tmp_path):
    token = make(cli)["study"]
    result = cli("export", "--peek", "--", token, tmp_path / "out.xlsx")
    assert result.exit_code == 2
    assert ".csv or .json" in result.output
    assert studies.load(token).peeked_at is None


def test_a_study_whose_time_is_over_counts_as_closed(cli, studies):
    token = make(cli)["study"]
    manifest = studies.load(token).manifest
    clips = [studies.clip(token, stimulus.sha256) for stimulus in manifest.stimuli]
    over = studies.create(manifest, clips, datetime.now(UTC) - timedelta(seconds=1))
    assert cli("results", "--", over.token).exit_code == 0
    assert last_json(cli("list", "--json"))["studies"][0]["state"] == "closed"


def test_delete_asks_and_takes_everything_along(cli, studies):
    token = make(cli)["study"]
    session = listen(studies, token, lambda shown: "A")
    refused = cli("delete", "--", token, input="n\n")
    assert refused.exit_code == 2
    assert f"({token}) with {len(session.trials)} ratings?" in refused.output
    assert len(studies.list()) == 1
    assert cli("delete", "--", token, input="y\n").exit_code == 0
    assert studies.list() == []


def test_delete_with_yes_does_not_ask(cli, studies):
    token = make(cli)["study"]
    assert last_json(cli("delete", "--yes", "--json", "--", token)) == {"deleted": token}
    assert studies.list() == []
