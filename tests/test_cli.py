import json
import os
import subprocess
import sys

import pytest
import soundfile
from typer.testing import CliRunner

from lab.__main__ import app
from lab.config import REGISTRY
from tests import fakes


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """The command line with fake workers."""
    monkeypatch.setenv("LAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("lab.cli.render.EnginePool", lambda weights, _device, **settings: fakes.fake_pool(weights.name, **settings))
    monkeypatch.setattr("lab.cli.render.probe", lambda _kind: fakes.CPU)

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run


def last_json(result):
    return json.loads(result.stdout.splitlines()[-1])


def test_compare_writes_the_clips_and_ends_with_one_json_document(cli, tmp_path):
    result = cli(
        "compare",
        "--text",
        "Hello.",
        "--configs",
        "baseline,optimized:nfe=6",
        "--voice",
        "demo-male",
        "--seed",
        3,
        "--out",
        tmp_path,
        "--json",
    )
    assert result.exit_code == 0
    clips = last_json(result)["clips"]
    assert [clip["config"] for clip in clips] == ["baseline", "optimized:nfe=6"]
    wanted = {"config", "path", "samples", "seconds", "rtf", "stages_ms", "noise_sha256", "mel_sha256", "audio_sha256", "engaged"}
    assert all(wanted <= set(clip) for clip in clips)
    for clip in clips:
        assert soundfile.info(clip["path"]).frames == clip["samples"]
    assert json.loads((tmp_path / "facts.json").read_text())["clips"][0]["seed"] == 3


def test_a_configuration_without_a_clip_is_in_the_json_and_the_exit_code(cli):
    result = cli("compare", "--text", "Please die.", "--configs", "baseline,upstream:nfe=2", "--json")
    assert result.exit_code == 1
    document = last_json(result)
    assert [clip["config"] for clip in document["clips"]] == ["upstream:nfe=2"]
    assert document["failed"][0]["config"] == "baseline"
    assert "died" in document["failed"][0]["error"]


def test_all_names_every_configuration(cli):
    result = cli("compare", "--text", "Hello.", "--configs", "all", "--json")
    assert {clip["config"] for clip in last_json(result)["clips"]} == set(REGISTRY)


def test_random_weights_write_no_audio(cli, tmp_path):
    result = cli("compare", "--text", "Hello.", "--weights", "random:demo", "--out", tmp_path, "--json")
    assert result.exit_code == 0
    assert [clip["path"] for clip in last_json(result)["clips"]] == [None, None]
    assert [path.name for path in tmp_path.glob("*.wav")] == []
    assert "was not written" in result.stdout


def test_synth_writes_one_file(cli, tmp_path):
    result = cli("synth", "--text", "Hello.", "--config", "upstream-nfe7", "--out", tmp_path / "sub" / "hello.wav", "--json")
    assert result.exit_code == 0
    assert soundfile.info(tmp_path / "sub" / "hello.wav").samplerate == 24_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare", "--text", ""), "Type something"),
        (("compare", "--text", "Hi", "--configs", "fast"), "no configuration 'fast'"),
        (("compare", "--text", "Hi", "--configs", ""), "at least 1"),
        (("compare", "--text", "Hi", "--weights", "nothing"), "no weights 'nothing'"),
        (("compare", "--text", "Hi", "--voice", "nobody"), "no such voice"),
        (("compare", "--text", "Hi", "--seed", "-1"), "seed"),
        (("compare", "--text", "Hi", "--reference-cache", "hot"), "warm or cold"),
        (("compare",), "either --text or --text-file"),
        (("patches", "show", "07"), "no patch '07'"),
        (("patches", "export", "/tmp"), "exists already"),
        (("engines", "nothing"), "no configuration 'nothing'"),
    ],
)
def test_bad_input_gives_a_message_and_exit_code_two(cli, arguments, message):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_refusal_is_a_json_document_too(cli):
    result = cli("compare", "--text", "", "--json")
    assert result.exit_code == 2
    assert "Type something" in last_json(result)["error"]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_rendered(cli, tmp_path):
    (tmp_path / "file").write_text("")
    result = cli("compare", "--text", "Please die.", "--out", tmp_path / "file" / "sub")
    assert result.exit_code == 2
    assert "died" not in result.output


def test_a_file_that_is_no_text_is_refused(cli, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    result = cli("compare", "--text-file", tmp_path / "binary")
    assert result.exit_code == 2
    assert "not UTF-8" in result.output


@pytest.mark.parametrize(("name", "value"), [("LAB_MAX_WORKERS", "many"), ("LAB_MAX_SECONDS", "nan"), ("LAB_MAX_SECONDS", "long")])
def test_a_variable_that_makes_no_sense_is_named(cli, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    result = cli("compare", "--text", "Hello.")
    assert result.exit_code == 2
    assert name in result.output
    assert cli("doctor").exit_code == 1


def test_a_patch_that_is_piped_comes_out_as_it_is(cli):
    from lab.engine.patching import PATCH_DIR

    assert cli("patches", "show", "02").stdout == (PATCH_DIR / "02-fp16-vocoder.patch").read_text()


def test_engines_lists_what_this_machine_can_run(cli, monkeypatch):
    result = cli("engines", "--device", "cpu", "--json")
    engines = {engine["config"]: engine for engine in last_json(result)["engines"]}
    assert set(engines) == set(REGISTRY)
    assert engines["upstream"]["refused"] == ""
    assert "CUDA only" in engines["baseline"]["inert"][0]
    assert [word in result.stdout for word in ("configuration", "what it is", "in part")] == [True] * 3


def test_patches_check_applies_every_set(cli):
    result = cli("patches", "check", "--json")
    assert result.exit_code == 0
    assert {row["state"] for row in last_json(result)["overlays"]} == {"ok"}


def test_patches_export_gives_a_package_that_python_imports_first(cli, tmp_path):
    result = cli("patches", "export", tmp_path / "out", "--patches", "01+04", "--json")
    assert result.exit_code == 0
    text = (tmp_path / "out" / "f5_tts" / "infer" / "utils_infer.py").read_text()
    assert "_prepared_ref_cache[key] = (audio, rms)" in text
    program = "import importlib.util; print(importlib.util.find_spec('f5_tts').origin or importlib.util.find_spec('f5_tts').submodule_search_locations)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "out")}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "out") in found.stdout


def test_doctor_finds_everything_that_is_needed(cli):
    result = cli("doctor", "--device", "cpu", "--json")
    assert result.exit_code == 0
    states = {finding["what"]: finding["state"] for finding in last_json(result)["findings"]}
    assert states["torch"] == states["f5-tts"] == states["voices"] == states["overlay 01+02+03+04"] == "ok"


def test_voices_and_texts_are_listed(cli):
    assert "demo-female" in {voice["id"] for voice in last_json(cli("voices", "--json"))["voices"]}
    assert len(last_json(cli("texts", "--json"))["texts"]) >= 8


@pytest.mark.parametrize("command", [(), ("compare",), ("synth",), ("engines",), ("patches",), ("doctor",), ("voices",), ("texts",)])
def test_help_is_complete(cli, command):
    result = cli(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_what_was_saved_is_listed_and_can_be_deleted(cli, tmp_path, monkeypatch):
    from lab.store import Store

    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)
    store = Store.open(tmp_path / "data")
    token = store.save_comparison({"clips": [{"text": "Hello [bold].", "storable": True}]}, [b"wav"])
    voice = store.save_voice("Mine", "Hello.", "en", b"other", "I agree.").id
    store.close()
    listed = last_json(cli("stored", "list", "--data-dir", tmp_path / "data", "--json"))["stored"]
    assert {row["token"] for row in listed} == {token, voice}
    for name in (token, voice):
        deleted = cli("stored", "delete", name, "--data-dir", tmp_path / "data", "--json")
        assert deleted.exit_code == 0
        assert last_json(deleted) == {"deleted": name}
    assert last_json(cli("stored", "list", "--data-dir", tmp_path / "data", "--json"))["stored"] == []
    assert cli("stored", "delete", token, "--data-dir", tmp_path / "data").exit_code == 2


def test_a_difference_to_a_silent_clip_has_no_level_and_is_still_described():
    from lab.cli.render import describe

    row = {"identical": False, "same_mel": False, "null_db": -20.0, "lsd_db": 3.0, "level_db": None}
    assert describe(row) == "null -20.0 dBFS, LSD 3.00 dB"
