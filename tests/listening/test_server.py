"""The real server in a process of its own: killed, flooded, and used by fifty listeners at once."""

import json
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lab.store import Store
from lab.study_store import Studies
from tests.fakes import wait_until
from tests.listening.load import everybody, new_study
from tests.listening.real_server import Line, Listener, serving
from tests.ui.test_compare_browser import Server

SHORT = 0.1  # seconds of a clip: it has to sound for 0.08


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("lab") / "data", "--no-warm-start")  # nothing is rendered here
    yield server
    if server.process.poll() is None:
        server.stop()


def stored(server, study):
    """Every answer that is in the database, by listener's number and trial."""
    store = Store.open(server.data)
    try:
        return {
            (session.number, trial.number): trial.rating
            for session in Studies(store).sessions(study.token)
            for trial in session.trials
            if trial.rating
        }
    finally:
        store.close()


def test_fifty_listeners_at_once_rate_sixteen_trials_each_without_an_error(server):
    study = new_study(server.data, "acr", trials=16, seconds=SHORT)
    took = everybody(server.address, study, listeners=50, ratings=16)
    assert len(took) == 50 * 16
    ratings = stored(server, study)
    assert len(ratings) == 50 * 16
    assert {listener for listener, _ in ratings} == set(range(50))
    assert all(rating.revision == 0 for rating in ratings.values())


def test_a_server_killed_while_listeners_rate_has_lost_no_answer_that_it_acknowledged(server):
    study = new_study(server.data, trials=16, seconds=SHORT)
    acknowledged, stop = [], threading.Event()

    def one(name):
        listener = Listener(server.address, study, name, lambda trial, sounds: random.choice("AB"))
        state = listener.begin()
        while state["screen"] == "trial" and not stop.is_set():
            whole = listener.rating(state["trial"])
            if len(acknowledged) >= 20:  # so that at least this answer is on its way when the server dies
                server.process.send_signal(signal.SIGKILL)
            try:
                answer = listener.line.ask("rate", **whole)
            except httpx.HTTPError:
                return listener, whole
            acknowledged.append((listener.line.session, whole))
            state = answer["state"]
        return listener, None

    with ThreadPoolExecutor(6) as pool:
        listeners = [pool.submit(one, name) for name in range(6)]
        deadline = time.monotonic() + 120
        while server.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        stop.set()
        left = [future.exception() or future.result() for future in listeners]
    assert server.process.wait(10) == -signal.SIGKILL
    assert len(acknowledged) >= 20
    kept = {(session.token, number): trial.rating.answer for session, number, trial in every_trial(server, study)}
    for token, whole in acknowledged:
        assert kept[token, whole["trial"]] == whole["answer"]

    server.start()
    again = [found for found in left if not isinstance(found, BaseException) and found[1] is not None]
    assert again
    for listener, whole in again:  # the page sends it again: it counts once, and the listener goes on
        answer = listener.line.ask("rate", **whole)
        assert "error" not in answer
        number = answer["state"]["trial"]["number"] if answer["state"]["screen"] == "trial" else None
        assert number in (whole["trial"] + 1, None)
    tokens = [(session.token, number) for session, number, _ in every_trial(server, study)]
    assert len(tokens) == len(set(tokens))


def every_trial(server, study):
    store = Store.open(server.data)
    try:
        sessions = Studies(store).sessions(study.token)
    finally:
        store.close()
    return [(session, trial.number, trial) for session in sessions for trial in session.trials if trial.rating]


def test_a_flood_on_the_rating_endpoint_changes_nothing(server):
    study = new_study(server.data, trials=8, seconds=SHORT)
    listener = Listener(server.address, study, 1, lambda trial, sounds: "A")
    state = listener.begin()
    whole = listener.rating(state["trial"])
    state = listener.line.ask("rate", **whole)["state"]
    before = stored(server, study)
    stop = threading.Event()
    answered = []

    def flood(number):
        line = Line(server.address, study.token)
        line.session = listener.line.session
        draw = random.Random(number)
        while not stop.is_set():
            bad = {
                **whole,
                "trial": draw.choice([0, 1, 2, -1, 10**9, None, "1"]),
                "key": draw.choice([whole["key"], f"flood-{draw.random()}", "", None]),
                "answer": draw.choice(["A", "B", "none", 5, None, {}]),
                "receipts": draw.choice([whole["receipts"], {}, None]),
                "comment": "x" * draw.choice([0, 10_000]),
                "revise": draw.choice([True, False, None]),
            }
            answer = line.ask("rate", **bad)
            answered.append(answer.get("accepted"))

    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, number) for number in range(8)]
        try:
            assert wait_until(lambda: len(answered) > 100, 120)
            honest = listener.line.ask("rate", **listener.rating(state["trial"]))  # a listener gets through meanwhile
            before_it = len(answered)
            assert wait_until(lambda: len(answered) > before_it + 30, 120)
        finally:
            stop.set()
        for future in floods:
            future.result()
    assert honest["accepted"] is True
    assert True not in answered
    after = stored(server, study)
    assert {key: rating for key, rating in after.items() if key in before} == before
    assert len(after) == len(before) + 1


def test_listeners_need_no_login_where_the_lab_asks_for_one_and_see_nothing_else_of_it(tmp_path):
    with serving(tmp_path, auth=("team", "secret")) as served:
        study = served.study("ab")
        client = httpx.Client(base_url=served.address, follow_redirects=True)
        assert client.get("/config").status_code == 401
        page = client.get(f"/listen?s={study.token}")
        assert page.status_code == 200
        assert Line(served.address, study.token).ask("open")["screen"] == "welcome"
        config = json.dumps(client.get("/listen/config").json())
        for name in ("fp16-vocoder", "upstream", "optimized", "golden", *(config.name for config in study.manifest.configs)):
            assert name not in page.text
            assert name not in config
