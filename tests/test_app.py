import socket
import subprocess
import sys

import pytest

import app


def test_sharing_without_a_login_is_refused(capsys):
    with pytest.raises(SystemExit) as refusal:
        app.parse(["--share"])
    assert refusal.value.code == 2
    assert "add --auth USER:PASSWORD" in capsys.readouterr().err


def test_the_app_listens_on_this_machine_only_unless_told_otherwise():
    assert app.parse([]).host == "127.0.0.1"
    assert app.parse([]).share is False


def test_a_login_needs_a_colon():
    for login in ("someone", ":", "someone:", ":secret"):
        with pytest.raises(SystemExit):
            app.parse(["--auth", login])
    assert app.parse(["--share", "--auth", "someone:secret"]).share


@pytest.mark.parametrize("port", ["abc", "99999", "0"])
def test_a_port_that_is_none_is_refused(port, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        app.parse(["--port", port])
    monkeypatch.setenv("LAB_PORT", port)
    with pytest.raises(SystemExit):
        app.parse([])
    assert "is no port" in capsys.readouterr().err


def test_unknown_weights_end_with_a_message(tmp_path):
    done = subprocess.run(
        [sys.executable, "app.py", "--weights", "nothing", "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "There are no weights 'nothing'" in done.stderr


def test_a_port_in_use_ends_with_a_message(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "app.py", "--port", port, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "Choose another with --port" in done.stderr
