"""What listeners' pages are told: enough to listen and to answer, nothing that gives away what is compared, and no answer without listening."""

import base64
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.listening import sealing
from lab.listening.model import TYPES
from lab.listening.service import Listening
from lab.store import Store
from lab.study_store import Studies
from tests.listening.manifests import NAMES, manifest
from tests.listening.real_server import Clock, unsealed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@pytest.fixture
def studies(tmp_path, monkeypatch):
    monkeypatch.delenv("LAB_DATABASE_URL", raising=False)
    store = Store.open(tmp_path / "data")
    yield Studies(store)
    store.close()


class Page:
    """A listener's browser, as far as the server can tell."""

    def __init__(self, studies, kind="abx", *, clock=None, study=None, listener="a-listener-of-this-test", **more):
        self.studies, self.clock = studies, clock or Clock()
        self.service = Listening(studies, self.clock)
        made, clips = manifest(kind, **more)
        self.study = study or studies.create(made, clips)
        self.listener, self.session, self.said = listener, None, []

    def ask(self, what, **more):
        answer = self.service.answer({"do": what, "study": self.study.token, "session": self.session, **more})
        self.said.append(answer)
        return answer

    def begin(self):
        state = self.ask("begin", listener=self.listener, consent=True)
        self.session = state["session"]
        return state

    def rating(self, trial, answer="A", wait=True):
        receipts = {track["label"]: self.ask("clip", token=track["token"])["receipt"] for track in trial["tracks"]}
        if wait:
            self.clock.seconds += sum(trial["needed"].values())
        key = f"{self.listener}/{trial['number']}"
        return {"trial": trial["number"], "key": key, "answer": answer, "heard": trial["needed"], "receipts": receipts}

    def rate(self, trial, answer="A", **more):
        return self.ask("rate", **self.rating(trial, answer), **more)

    def rated(self):
        return [trial.rating.answer for trial in self.studies.session(self.session).trials if trial.rating]


def answer_to(kind, trial):
    return {"acr": 3, "ccr": 0, "mushra": {track["label"]: 50 for track in trial["tracks"][1:]}}.get(kind, "A")


@pytest.mark.parametrize("kind", TYPES)
def test_a_whole_pass_ends_with_thanks_and_names_nothing_that_is_compared(studies, kind):
    page = Page(studies, kind, trials=4)
    state = page.ask("open")
    assert state["screen"] == "welcome"
    state = page.begin()
    while state["screen"] == "trial":
        said = page.rate(state["trial"], answer_to(kind, state["trial"]))
        assert said.get("accepted") is True, said
        state = said["state"]
    assert (state["screen"], state["complete"]) == ("thanks", True)
    assert state["results"]
    told = json.dumps([{key: value for key, value in answer.items() if key not in ("sealed", "key")} for answer in page.said])
    made = page.study.manifest
    secrets = {*NAMES, *(config.name for config in made.configs), page.study.secret, made.title, "ladder", "anchor", "yardstick", "catch"}
    secrets |= {stimulus.sha256 for stimulus in made.stimuli} | {text.id for text in made.texts} | {made.weights, made.voice}
    assert [word for word in secrets if word in told] == []
    after = page.ask("open")
    assert after["screen"] == "thanks"


def test_the_x_of_an_abx_is_its_twin_and_nothing_on_the_wire_says_of_which(studies):
    page = Page(studies)
    trial = page.begin()["trial"]
    sent = {track["label"]: page.ask("clip", token=track["token"]) for track in trial["tracks"]}
    assert len({track["token"] for track in trial["tracks"]}) == 3
    assert len({answer["sealed"] for answer in sent.values()}) == 3
    assert len({len(answer["sealed"]) for answer in sent.values()}) == 1
    heard = {label: unsealed(answer) for label, answer in sent.items()}
    x = page.studies.session(page.session).trials[0].presentation.x
    assert heard["X"] == heard[x] != heard["AB".replace(x, "")]
    # no piece of a twin can be found in the other, at whatever place
    raw = {label: base64.b64decode(answer["sealed"]) for label, answer in sent.items()}
    assert raw["X"][1000:1016] not in raw[x]
    assert np.mean(np.frombuffer(raw["X"], np.uint8) == np.frombuffer(raw[x], np.uint8)) < 0.02


def test_the_bytes_a_listener_hears_are_those_that_were_stored(studies):
    page = Page(studies)
    trial = page.begin()["trial"]
    for place, track in enumerate(trial["tracks"]):
        slot = page.studies.session(page.session).trials[0].presentation.slots[place]
        stored = studies.clip(page.study.token, page.study.manifest.stimuli[slot].sha256)
        assert unsealed(page.ask("clip", token=track["token"])) == stored


def test_an_answer_without_listening_is_refused_whatever_the_browser_says(studies):
    page = Page(studies)
    trial = page.begin()["trial"]
    whole = page.rating(trial, wait=False)
    assert "no time" in page.ask("rate", **whole)["error"]
    page.clock.seconds += 10
    short = {**whole, "heard": {**whole["heard"], "X": 0.01}}
    assert "X a little longer" in page.ask("rate", **short)["error"]
    forged = {**whole, "receipts": {**whole["receipts"], "B": whole["receipts"]["A"]}}
    assert "B a little longer" in page.ask("rate", **forged)["error"]
    early = whole["receipts"]["A"].partition(".")
    forged = {**whole, "receipts": {**whole["receipts"], "A": f"{int(early[0]) - 60_000}.{early[2]}"}}
    assert "A a little longer" in page.ask("rate", **forged)["error"]
    for missing in ("heard", "receipts"):
        assert "error" in page.ask("rate", **{**whole, missing: None})
    for nonsense in (float("nan"), "2", None, float("inf"), -1):
        assert "error" in page.ask("rate", **{**whole, "heard": {**whole["heard"], "A": nonsense}})
    assert page.rated() == []
    assert page.ask("rate", **whole)["accepted"] is True


def test_receipts_of_another_listener_are_worth_nothing(studies):
    page = Page(studies)
    other = Page(studies, study=page.study, clock=page.clock, listener="another-listener-of-it")
    mine, theirs = page.begin()["trial"], other.begin()["trial"]
    stolen = other.rating(theirs)
    assert "longer" in page.ask("rate", **{**page.rating(mine), "receipts": stolen["receipts"]})["error"]
    assert "not part of the question" in page.ask("clip", token=theirs["tracks"][0]["token"])["error"]


def test_only_the_clips_of_the_open_question_are_handed_out(studies):
    page = Page(studies)
    state = page.begin()
    later = sealing.clip_token(page.study.secret, page.session, state["trial"]["number"] + 1, 0)
    assert "not part of the question" in page.ask("clip", token=later)["error"]


def test_an_answer_that_is_sent_twice_is_one_rating(studies):
    page = Page(studies)
    trial = page.begin()["trial"]
    whole = page.rating(trial, "A")
    assert page.ask("rate", **whole)["accepted"] is True
    again = page.ask("rate", **whole)
    assert (again["accepted"], again["state"]["trial"]["number"]) == (False, trial["number"] + 1)
    assert page.rated() == ["A"]


def test_two_tabs_are_one_session_and_the_first_answer_stands(studies):
    page = Page(studies)
    tab = Page(studies, study=page.study, clock=page.clock)
    trial = page.begin()["trial"]
    assert tab.begin()["session"] == page.session
    assert page.rate(trial, "A")["accepted"] is True
    second = tab.ask("rate", **{**tab.rating(tab.ask("open")["trial"]), "trial": trial["number"], "answer": "B", "key": "another-tab"})
    assert (second["accepted"], second["state"]["trial"]["number"]) == (False, 1)
    assert page.rated() == ["A"]


def test_a_question_cannot_be_answered_before_its_turn(studies):
    page = Page(studies)
    trial = page.begin()["trial"]
    whole = page.rating(trial)
    assert page.ask("rate", **{**whole, "trial": 3})["accepted"] is False
    assert "error" in page.ask("rate", **{**whole, "trial": 999})
    assert "error" in page.ask("rate", **{**whole, "trial": True})
    assert page.rated() == []


def test_the_last_answer_can_be_changed_and_the_first_one_is_kept_beside_it(studies):
    page = Page(studies)
    state = page.begin()
    for _ in range(3):
        state = page.rate(state["trial"])["state"]
    before = state["before"]
    assert (before["number"], before["answer"]) == (2, "A")
    changed = page.ask("rate", **{**page.rating(before, "B"), "key": "a-second-thought"}, revise=True)
    assert changed["accepted"] is True
    assert changed["state"]["trial"]["number"] == 3
    assert page.rated() == ["A", "A", "B"]
    assert page.studies.session(page.session).trials[2].rating.revision == 1


@pytest.mark.parametrize("kind", ["abx", "staircase"])
def test_neither_a_practice_answer_nor_one_that_the_next_question_depends_on_can_be_changed(studies, kind):
    page = Page(studies, kind)
    state = page.begin()
    for _ in range(2 if kind == "abx" else 4):
        state = page.rate(state["trial"])["state"]
    assert state["before"] is None
    last = state["trial"]["number"] - 1
    assert page.ask("rate", **{**page.rating(state["trial"]), "trial": last}, revise=True)["accepted"] is False


def test_after_a_restart_of_the_server_a_listener_goes_on_where_they_were(studies, tmp_path):
    page = Page(studies)
    state = page.rate(page.begin()["trial"])["state"]
    whole = page.rating(state["trial"])
    store = Store.open(tmp_path / "data")
    page.service = Listening(Studies(store), page.clock)
    assert page.ask("open")["trial"] == state["trial"]
    assert page.ask("rate", **whole)["accepted"] is True  # with the receipts of the server before
    store.close()


def test_a_study_that_is_closed_takes_no_answer_and_says_so(studies):
    page = Page(studies)
    state = page.begin()
    state = page.rate(state["trial"])["state"]
    whole = page.rating(state["trial"])
    studies.close(page.study.token)
    refused = page.ask("rate", **whole)
    assert (refused["accepted"], refused["state"]["screen"], refused["state"]["complete"]) == (False, "thanks", False)
    assert page.ask("begin", listener="somebody-who-comes-late", consent=True) == {"screen": "closed"}
    assert Page(studies, study=page.study, clock=page.clock).ask("open") == {"screen": "closed"}


def test_without_consent_nothing_is_kept(studies):
    page = Page(studies)
    assert "agree" in page.ask("begin", listener=page.listener)["error"]
    assert studies.sessions(page.study.token) == []


def test_what_a_page_notes_is_kept_and_a_flood_of_notes_is_not(studies):
    page = Page(studies)
    page.begin()
    for _ in range(50):
        page.ask("note", kind="volume", value={"volume": 0.5})
    page.ask("note", kind="headphones", value={"passed": True, "right": 6, "of": 6})
    assert "error" in page.ask("note", kind="anything", value={})
    assert "error" in page.ask("note", kind="volume", value={"x": "y" * 10_000})
    events = [kind for kind, _, _ in studies.session(page.session).events]
    assert events.count("volume") == 20
    assert events.count("headphones") == 1


def test_a_study_that_does_not_exist_is_said_to_be_unknown(studies):
    page = Page(studies)
    for token in ("", "nonsense", "x" * 22, "../../etc/passwd", None, 5):
        assert page.service.answer({"do": "open", "study": token})["kind"] in ("unknown", "refused")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=JSON | st.fixed_dictionaries({"do": st.sampled_from(["open", "begin", "note", "clip", "rate"])}, optional=dict.fromkeys(
    ["study", "session", "listener", "consent", "kind", "value", "token", "trial", "key", "answer", "heard", "receipts", "comment", "revise"], JSON
)))  # fmt: skip
def test_whatever_is_asked_gets_an_answer_in_words_and_changes_nothing(page, question):
    if isinstance(question, dict):
        for name, value in (("study", page.study.token), ("session", page.session)):
            question.setdefault(name, value)
    answer = page.service.answer(question)
    assert isinstance(answer, dict)
    assert json.dumps(answer)
    assert page.rated() == []


@pytest.fixture
def page(studies):
    page = Page(studies)
    page.begin()
    return page


def test_receipts_and_tokens_come_from_the_secret_alone():
    secret, other = "ab" * 32, "cd" * 32
    token = sealing.clip_token(secret, "session", 1, 2)
    assert token == sealing.clip_token(secret, "session", 1, 2)
    assert len(token) == 22
    assert len({token, sealing.clip_token(other, "session", 1, 2), sealing.clip_token(secret, "session", 1, 1)}) == 3
    proof = sealing.receipt(secret, token, 1234)
    assert sealing.read_receipt(secret, token, proof) == 1234
    for bad in (None, 5, "", "1234", "1234.x", f"{proof}x", "\u0661.x", proof.replace("1234", "1235"), "9" * 40 + ".x"):
        assert sealing.read_receipt(secret, token, bad) is None
    assert sealing.read_receipt(other, token, proof) is None
