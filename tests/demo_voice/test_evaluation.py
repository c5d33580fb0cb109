"""What the evaluation asks, measures and writes; its clips are the synthesizers' own, and two of the shipped model's."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file

from lab.demo_voice import card, evaluation, export
from lab.demo_voice import model as models
from lab.demo_voice.corpus import CorpusError
from lab.demo_voice.evaluation import COPY, SYNTHESIZER, Spoken, demands, judge, sentences
from lab.demo_voice.hearing import hear
from lab.voices import voices_in
from tests.demo_voice.packages import needs_packages


def row(source, wer, **more):
    fine = {"first": wer, "rest": wer, "right_voice": 1.0, "silence": 0.97, "after_db": -60.0, "rtf": 0.5}
    return {"voice": "female", "source": source, "wer": wer, **fine, **more}


def asked(*rows):
    return {demand["demand"]: demand["met"] for demand in demands(rows)}


def test_a_good_voice_meets_every_demand():
    met = asked(
        row(SYNTHESIZER, 0.1), row(COPY, 0.11), *(row(f"nfe{nfe}", wer) for nfe, wer in ((32, 0.2), (16, 0.24), (7, 0.29), (4, 0.5)))
    )
    assert len(met) == 10
    assert all(met.values())


@pytest.mark.parametrize(
    ("bad", "demand"),
    [
        (row("nfe32", 0.26), "word error rate at NFE 32"),
        (row("nfe32", 0.2, first=0.3, rest=0.18), "first two words against the rest at NFE 32"),
        (row("nfe32", 0.2, right_voice=0.98), "clips nearer to the right voice at NFE 32"),
        (row("nfe32", 0.2, silence=0.8), "silence where the synthesizer is silent at NFE 32"),
        (row("nfe32", 0.2, after_db=-20.0), "level after the last word at NFE 32, dB"),
        (row("nfe32", 0.2, after_db=0.0), "level after the last word at NFE 32, dB"),
        (row("nfe7", 0.31), "word error rate at NFE 7"),
        (row("nfe7", 0.2, rtf=0.7), "real-time factor at NFE 7"),
        (row("nfe4", 0.21), "word error rate at NFE 4 against 7"),
        (row(COPY, 0.07), "word error rate through the vocoder"),
    ],
)
def test_each_fault_fails_its_own_demand(bad, demand):
    rows = {one["source"]: one for one in (row(SYNTHESIZER, 0.1), row(COPY, 0.1), row("nfe32", 0.2), row("nfe7", 0.2), row("nfe4", 0.5))}
    met = asked(*(rows | {bad["source"]: bad}).values())
    assert [name for name, fine in met.items() if not fine] == [demand]


def test_what_was_not_measured_is_not_asked():
    assert asked(row(SYNTHESIZER, 0.1)) == {}


@pytest.fixture(scope="module")
def spoken():
    """A sentence by both synthesizers; "nfe32" is the same voice again, "nfe7" the other one."""
    from lab.demo_voice.sentences import readable
    from lab.demo_voice.synthesizers import SPEAKERS, say

    chosen = [next(one for one in sentences() if one.kind == "plain")]
    clips = {who.name: say(who, [readable(one.text) for one in chosen]) for who in SPEAKERS}
    made = []
    for who, other in (("female", "male"), ("male", "female")):
        for source, by in ((SYNTHESIZER, who), (COPY, who), ("nfe32", who), ("nfe7", other)):
            rtf = None if source in (SYNTHESIZER, COPY) else 0.4
            made += [Spoken(who, source, one, speech.samples, rtf) for one, speech in zip(chosen, clips[by], strict=True)]
    return made


@pytest.fixture(scope="module")
def result(spoken):
    """What is the same clip is heard once: that is most of the time."""
    known = {}

    def heard_once(samples):
        key = samples.tobytes()
        if key not in known:
            known[key] = hear(samples)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "hear", heard_once)
        return judge(spoken, workers=1)


@needs_packages
def test_the_right_voice_is_told_from_the_other_and_words_are_heard(result):
    rows = {(one["voice"], one["source"]): one for one in result["rows"]}
    assert result["sentences"] == 1
    for voice in ("female", "male"):
        assert rows[voice, "nfe32"]["right_voice"] == 1.0
        assert rows[voice, "nfe7"]["right_voice"] == 0.0
        assert rows[voice, "nfe32"]["wer"] == rows[voice, SYNTHESIZER]["wer"] < 0.5
        assert rows[voice, "nfe32"]["own_db"] == 0.0
        assert rows[voice, COPY]["lsd_db"] == pytest.approx(0.0, abs=1e-6)
        assert set(rows[voice, "nfe7"]["kinds"]) == {"plain"}


@needs_packages
def test_the_card_says_figures_sources_and_commands_and_shows_spectrograms(result, spoken, tmp_path):
    corpus = {"utterances": 20_000, "seed": 0}
    (tmp_path / "corpus.json").write_text(json.dumps(corpus))
    (tmp_path / "evaluation.json").write_text(json.dumps(result))
    with pytest.raises(CorpusError, match="has no whole corpus"):
        card.write(tmp_path, tmp_path / "evaluation.json", [tmp_path], {}, [])
    (tmp_path / "corpus.json").write_text(json.dumps(corpus | {"hours": 41.04, "sha256": "0f", "synthesizers": "flite 2.2-5"}))
    second = tmp_path / "second"
    second.mkdir()
    (second / "corpus.json").write_text(json.dumps(corpus | {"seed": 7, "hours": 3.0, "sha256": "0e", "synthesizers": ""}))
    steps = {"steps": 60_000, "vocoder_steps": 8_000}
    written = card.write(tmp_path, tmp_path / "evaluation.json", [tmp_path, second], steps, ["one", "two"])
    text = written.read_text()
    for part in (
        "60,000 steps",
        "8,000 steps",
        "41.0 hours",
        "20,000 utterances",
        "flite 2.2-5",
        "3.0 hours, 20,000 utterances of each voice, seed 7 (versions not recorded)",
        "festvox-us-slt-hts",
        "from what it copies: 0.0 dB (female) and 0.0 dB (male).",
        "```bash\none\ntwo\n```",
    ):
        assert part in text
    assert text.count("\n| female |") == text.count("\n| male |") == 4
    picture = card.spectrograms(spoken, sentences()[0], "female")
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 300_000


@needs_packages
def test_what_is_exported_has_voices_that_the_lab_takes_and_says_its_steps(tmp_path):
    torch.manual_seed(0)
    trained, vocoder = tmp_path / "model.safetensors", tmp_path / "vocoder.safetensors"
    save_file(models.exported_state(models.cfm(models.config()).state_dict()), trained, {"steps": "7", "seed": "0"})
    save_file({name: value.half() for name, value in models.vocoder().state_dict().items()}, vocoder, {"steps": "9", "seed": "0"})
    assert export.export(trained, vocoder, tmp_path / "out") == {"steps": 7, "vocoder_steps": 9}
    voices = voices_in(tmp_path / "out" / "voices")
    assert [voice.id for voice in voices] == ["demo-female", "demo-male", "demo-female-quiet"]
    loud, quiet = (sf.read(tmp_path / "out" / "voices" / name)[0] for name in ("female.wav", "female-quiet.wav"))
    assert np.abs(loud * 10 ** (-14 / 20) - quiet).max() <= 0.51 / 32768
    assert 2.8 < len(loud) / 24_000 < 4.0  # short, because the reference is rendered too
    sizes = sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert sizes < 35_000_000


def test_nothing_is_exported_without_what_was_trained(tmp_path):
    with pytest.raises(export.ExportError, match=r"Train first: python -m lab demo-voice train"):
        export.export(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_packages
@pytest.mark.engine
def test_the_evaluation_speaks_through_the_lab_s_own_engine_and_exits_with_1_where_a_demand_is_not_met(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from lab.__main__ import app

    short = next(one for one in sentences() if one.kind == "short")
    monkeypatch.setattr(evaluation, "sentences", lambda: (short,))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setenv("COLUMNS", "200")
    ended = CliRunner().invoke(app, ["demo-voice", "evaluate", "--nfe", "2", "--out", str(tmp_path), "--json"])
    found = json.loads(ended.stdout.strip().splitlines()[-1])
    assert ended.exit_code == (0 if all(demand["met"] for demand in found["demands"]) else 1)
    assert {(one["voice"], one["source"]) for one in found["rows"]} == {
        (voice, source) for voice in ("female", "male") for source in (SYNTHESIZER, COPY, "nfe2")
    }
    assert all(one["rtf"] > 0 for one in found["rows"] if one["source"] == "nfe2")
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    assert (tmp_path / card.PICTURE).stat().st_size > 1_000


def test_step_counts_that_are_no_numbers_are_refused_before_anything_is_loaded():
    from typer.testing import CliRunner

    from lab.__main__ import app

    ended = CliRunner().invoke(app, ["demo-voice", "evaluate", "--nfe", "7,many"])
    assert ended.exit_code != 0
    assert "write whole numbers with commas between" in ended.output + getattr(ended, "stderr", "")


def test_the_help_names_every_step_of_the_making():
    from typer.testing import CliRunner

    from lab.__main__ import app

    text = CliRunner().invoke(app, ["demo-voice", "--help"]).output
    for command in ("corpus", "train", "train-vocoder", "export", "evaluate", "card"):
        assert command in text
