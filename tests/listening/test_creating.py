import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.io import wavfile

from lab import voices
from lab.config import parse_list
from lab.engine.process import Cancel, Cancelled
from lab.errors import LabError
from lab.listening import design
from lab.listening.creating import create_study
from lab.listening.model import TYPES, StudyError, Text
from lab.listening.ordering import StudyOrder
from lab.listening.staircase import LADDER
from lab.store import Store
from lab.study_store import Studies
from tests import fakes

VOICE = voices.find_voice("demo-female")
TEXTS = (Text(id="one", text="One small text."), Text(id="two", text="And another one."))
CONFIGS = "upstream,upstream-nfe7,upstream-nfe4"


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Fake workers whose clips differ by their number of steps."""
    with fakes.differing_pool(tmp_path_factory.mktemp("cache")) as pool:
        yield pool


@pytest.fixture
def make(pool, tmp_path):
    """Creates studies in a store of the test's own."""
    store = Store.open(tmp_path / "data", url=f"sqlite:///{tmp_path / 'data' / 'lab.sqlite3'}")

    def create(type="abx", configs=CONFIGS, texts=TEXTS, voice=VOICE, **settings):
        known = {name: settings.pop(name) for name in ("cancel", "progress") if name in settings}
        order = StudyOrder(type, parse_list(configs), texts, **settings)
        return create_study(order, pool, create.studies, voice, **known)

    create.studies = Studies(store)
    yield create
    store.close()


def texts(*words):
    return tuple(Text(id=f"t{number}", text=f"{word} this is text {'abcdefgh'[number]}.") for number, word in enumerate(words))


@pytest.mark.parametrize("type", TYPES)
def test_a_study_of_each_type_is_stored_whole_and_can_be_presented(make, type):
    created = make(type, "upstream" if type == "staircase" else CONFIGS, trials=8)
    study = make.studies.load(created.study.token)
    manifest = study.manifest
    assert manifest == created.study.manifest
    assert (manifest.type, manifest.trials, manifest.reference) == (type, 8, "upstream")
    assert manifest.gate == created.report.document()
    assert len({stimulus.sha256 for stimulus in manifest.stimuli}) == created.clips
    used = {place for unit in manifest.units for place in unit.stimuli}
    assert used == set(range(len(manifest.stimuli)))
    for stimulus in manifest.stimuli:
        rate, samples = wavfile.read(io.BytesIO(make.studies.clip(study.token, stimulus.sha256)))
        assert (rate, len(samples) / rate) == (24_000, stimulus.seconds)
        assert np.abs(samples).max() <= 10 ** (-1 / 20) + 1e-6
    trials = design.plan(manifest, 0)
    assert [trial.kind for trial in trials[:1]] == ["practice"]
    if type != "staircase":
        assert sum(trial.kind == "main" for trial in trials) == 8


def test_the_manifest_says_what_the_study_was_made_of(make):
    until = datetime.now(UTC) + timedelta(days=1)
    created = make(seed=5, other_seed=9, margin=0.65, title="A test", open_until=until, own_results=False)
    manifest = created.study.manifest
    assert created.study.open_until == until
    assert (manifest.seed, manifest.other_seed, manifest.margin, manifest.title, manifest.thanks) == (5, 9, 0.65, "A test", False)
    assert (manifest.voice, manifest.weights, manifest.device) == ("demo-female", "demo", "a CPU")
    assert [config.name for config in manifest.configs] == CONFIGS.split(",")
    assert manifest.configs[1].settings["nfe"] == 7
    assert [text.id for text in manifest.texts[:2]] == ["one", "two"]
    assert {"lab", "f5-tts", "torch", "pyloudnorm", "python"} <= set(manifest.versions)
    seeds = {stimulus.role: stimulus.seed for stimulus in manifest.stimuli}
    assert seeds == {"system": 5, "other seed": 9, "anchor 3.5 kHz": 5}


def test_without_a_title_a_study_is_called_by_what_is_compared(make):
    manifest = make().study.manifest
    assert manifest.title == f"{manifest.configs[0].name} against {', '.join(config.name for config in manifest.configs[1:])}"


def test_practice_is_on_a_text_of_its_own(make):
    manifest = make().study.manifest
    practice = {unit.text for unit in manifest.units if unit.kind == "practice"}
    assert practice == {2}
    assert not [unit for unit in manifest.units if unit.text == 2 and unit.kind != "practice"]


def test_identical_pairs_are_catches_and_the_others_are_asked(make):
    manifest = make("ab", texts=texts("still", "now")).study.manifest
    assert {unit.text for unit in manifest.units if unit.kind == "main"} == {1}
    same = [unit for unit in manifest.units if unit.expects == "same"]
    assert [manifest.stimuli[place].config for place in same[0].stimuli] == ["upstream", "upstream-nfe7"]
    assert len({manifest.stimuli[place].sha256 for place in same[0].stimuli}) == 1


@pytest.mark.parametrize("type", ["ab", "abx", "acr", "ccr", "mushra"])
def test_a_study_in_which_everything_is_identical_is_refused_and_that_is_the_result(make, type):
    with pytest.raises(StudyError, match=r"same samples in all 2 texts \(equal by SHA-256") as refused:
        make(type, "upstream,upstream-nfe32,vocoder-fp32:nfe=32")
    assert "That is the result" in str(refused.value)
    assert "upstream-nfe32 and vocoder-fp32:nfe=32 and upstream" in str(refused.value)
    assert make.studies.list() == []


@pytest.mark.parametrize("type", ["ab", "acr", "mushra"])
def test_a_configuration_that_is_always_identical_is_left_out_and_noted(make, type):
    created = make(type, "upstream,upstream-nfe32,upstream-nfe7")
    assert [config.name for config in created.study.manifest.configs] == ["upstream", "upstream-nfe7"]
    assert "upstream-nfe32" not in {stimulus.config for stimulus in created.study.manifest.stimuli}
    assert created.study.manifest.gate["left_out"] == ["upstream-nfe32: the same samples as the reference in all 2 texts"]


def test_a_pair_with_other_silences_is_left_out_unless_the_limit_is_raised(make):
    late = texts("late", "late")
    created = make("ab", texts=late)
    assert [config.name for config in created.study.manifest.configs] == ["upstream", "upstream-nfe7"]
    assert "no text of it came through" in created.study.manifest.gate["left_out"][0]
    wide = make("ab", texts=late, silence_ms=200.0)
    assert "upstream-nfe4" in {unit.comparison for unit in wide.study.manifest.units if unit.kind == "main"}


def test_when_nothing_comes_through_the_refusal_says_why(make):
    with pytest.raises(StudyError, match=r"nothing to ask.*t0, upstream-nfe4: silence differs by \+\d+ ms.*--silence-ms"):
        make("ab", "upstream,upstream-nfe4", texts=texts("late", "late"))
    with pytest.raises(StudyError, match=r"nothing to ask.*it is silent"):
        make("ab", "upstream,upstream-nfe4", texts=texts("mute"))


def test_a_rating_of_single_clips_only_notes_other_silences(make):
    manifest = make("acr", texts=texts("late")).study.manifest
    assert "upstream-nfe4" in {manifest.stimuli[place].config for unit in manifest.units for place in unit.stimuli}


def test_a_staircase_has_every_rung_and_is_refused_without_one(make):
    manifest = make("staircase", "golden").study.manifest
    assert {unit.level for unit in manifest.units if unit.kind == "main"} == set(LADDER)
    assert [config.name for config in manifest.configs[:2]] == ["golden", "golden:nfe=16"]
    assert not [stimulus for stimulus in manifest.stimuli if stimulus.role == "other seed"]
    with pytest.raises(StudyError, match="no clip for NFE 4 of the staircase"):
        make("staircase", "golden", texts=texts("late"))


def test_a_configuration_that_fails_refuses_the_study_in_its_own_words(make):
    with pytest.raises(StudyError, match=r"upstream gave no clip of 't0', so there is no study: That cannot be said\."):
        make(texts=texts("refuse"))
    with pytest.raises(StudyError, match="not numbers"):
        make(configs="upstream,upstream-nfe6", texts=texts("overflow"))
    assert make.studies.list() == []


def test_a_text_that_cannot_be_said_is_refused_before_anything_is_rendered(make):
    seen = []
    with pytest.raises(LabError, match="markup"):
        make(texts=(*TEXTS, Text(id="bad", text="<b>Hello</b>")), progress=lambda *stage: seen.append(stage))
    assert seen == []


def test_progress_says_which_text_of_how_many(make):
    seen = []
    make(progress=lambda stage, _done, _total: seen.append(stage))
    assert {stage.split(",")[0] for stage in seen} == {"text 1 of 3", "text 2 of 3", "text 3 of 3"}
    assert any("upstream-nfe7" in stage for stage in seen)


def test_stopping_stores_nothing(make):
    cancel = Cancel()

    def stop(stage, _done, _total):
        if stage.startswith("text 2"):
            cancel.set()

    with pytest.raises(Cancelled):
        make(cancel=cancel, progress=stop)
    assert make.studies.list() == []


def test_random_weights_are_refused_before_a_worker_starts(make):
    with fakes.fake_pool("random:demo") as pool, pytest.raises(StudyError, match="noise"):
        create_study(StudyOrder("ab", parse_list(CONFIGS), TEXTS), pool, make.studies, VOICE)
    assert pool.status() == ()


def test_a_persons_own_clip_has_no_name_in_the_manifest(make):
    own = replace(VOICE, id="jane-smith", name="Jane Smith")
    manifest = make(voice=own).study.manifest
    assert manifest.voice == "own voice"
    assert "jane" not in manifest.text_json().lower()


def test_the_same_order_gives_the_same_audio(make):
    first, second = (make("mushra").study.manifest for _ in range(2))
    assert [stimulus.sha256 for stimulus in first.stimuli] == [stimulus.sha256 for stimulus in second.stimuli]
    assert first.units == second.units
    assert json.loads(first.text_json())["gate"] == second.gate
