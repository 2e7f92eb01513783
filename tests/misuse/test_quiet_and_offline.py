"""Nothing warns, and nothing goes to the network, in what a user does with the core of the library."""

import subprocess
import sys
from pathlib import Path

FLOW = Path(__file__).with_name("short_flow.py")

OFFLINE = """
import runpy, sys

asked = []

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        asked.append((event, arguments))
        raise OSError(f"{event} in a test without network")

sys.addaudithook(watch)
if sys.argv[1] == "ask":
    import socket
    try:
        socket.create_connection(("localhost", 9))
    except OSError:
        pass
else:
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
print("asked", asked)
"""
"""Audit hooks see what every library does, in C too, and cannot be taken off; an error that is swallowed is kept."""


def said(*arguments: str) -> str:
    """What Python prints for these arguments; fails with what it says on stderr."""
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_the_short_flow_and_commands_warn_of_nothing_and_ask_for_no_network():
    out = said("-W", "error", "-c", OFFLINE, str(FLOW), "demo --help", "check bnn+", "check bnn++ --mu 2")
    assert [line for line in out.splitlines() if line.startswith("exit status")] == [
        "exit status 0", "exit status 1", "exit status 0"
    ]  # fmt: skip
    assert out.splitlines()[-1] == "asked []"


def test_whoever_asks_for_the_network_is_seen():
    assert "socket.getaddrinfo" in said("-c", OFFLINE, "ask")
