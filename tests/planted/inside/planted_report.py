"""A pytest plugin that writes which test begins and which one fails to the file $PLANTED_REPORT."""

import os
from pathlib import Path

import pytest


def pytest_runtest_logstart(nodeid: str) -> None:
    _write("began", nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        _write("failed", report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write("failed", report.nodeid)


def _write(word: str, nodeid: str) -> None:
    with Path(os.environ["PLANTED_REPORT"]).open("a") as file:
        file.write(f"{word} {nodeid}\n")
