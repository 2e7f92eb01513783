"""Nothing warns, needs an extra or goes to the network, in what a user does with the library and with every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from every_command import COMMANDS, SLOW, STRICT

from proxconnect.cli.command import _parser

HERE = Path(__file__).parent

ASK = """
import socket
try:
    {}
except OSError:
    pass
"""
WAYS = {
    "socket.getaddrinfo": "socket.create_connection(('localhost', 9))",
    "socket.gethostbyname": "socket.gethostbyname('localhost')",
    "socket.connect": "socket.socket().connect(('127.0.0.1', 9))",
    "socket.sendto": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
}
"""By the audit events that they are."""


def said(folder: Path, *arguments: str) -> tuple[list[str], str]:
    """The lines that Python prints for these arguments, and what was asked of the network.

    An audit hook (`offline/sitecustomize.py`) sees what this process and those that it starts ask of Python's sockets;
    it cannot be taken off, and keeps an error that is swallowed. Fails with what is said on stderr.
    """
    asked = folder / "asked"
    asked.touch()
    environment = os.environ | {"ASKED": str(asked), "PYTHONPATH": str(HERE / "offline"), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=400, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), asked.read_text()


def test_no_command_asks_for_the_network(tmp_path, pytestconfig):
    """And imports, the short flow and a few commands warn of nothing."""
    slow = SLOW if pytestconfig.getoption("full") else []
    lines, asked = said(tmp_path, "-W", "error", str(HERE / "every_command.py"), *slow)
    expected = STRICT | dict.fromkeys([*COMMANDS, *slow], 0)
    found = [line for line in lines if line.startswith("exit status")]
    assert found == [f"exit status {status} of {command}" for command, status in expected.items()]
    assert asked == ""


def test_every_verb_is_among_these_commands():
    (verbs,) = (action.choices for action in _parser()._actions if action.metavar == "COMMAND")
    assert {command.split()[0] for command in [*COMMANDS, *SLOW]} == set(verbs)


def test_the_api_and_every_verb_without_extras_need_the_core_alone(tmp_path):
    lines, asked = said(tmp_path, str(HERE / "core.py"), "--hide")
    assert lines[-1] == "done"
    assert asked == ""


@pytest.mark.parametrize("event", WAYS)
def test_whoever_asks_for_the_network_is_seen(event, tmp_path):
    assert said(tmp_path, "-c", ASK.format(WAYS[event]))[1].startswith(event)


def test_a_child_that_asks_for_the_network_is_seen_too(tmp_path):
    ask = ASK.format(WAYS["socket.connect"])
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ask!r}], check=True)"
    assert "socket.connect" in said(tmp_path, "-c", code)[1]
