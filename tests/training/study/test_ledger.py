"""The ledger's file: torn lines are mended and kept, wrong ones are named, a full disk leaves it as it was."""

import json
import os

import pytest

from proxconnect.training.study import ledger
from proxconnect.training.study.ledger import Entry, Ledger, LedgerError
from proxconnect.training.study.rows import StudyRow


def entry(seed: int = 0, accuracy: object = 0.5, **labels) -> Entry:
    row = StudyRow({"seed": str(seed), "pair": "bnn++"} | labels, {"seed_everything": seed, **labels}, "a:b")
    measured = {
        "accuracy": {"reestimated": accuracy},
        "curve": [{"epoch": 1, "loss": 0.5, "accuracy": 0.5}],
        "seconds": 1.0,
    }
    return Entry.of(row, measured, {"results": "0.1.0+1"}, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")


def write(path, *entries):
    with Ledger.writing(path) as book:
        for one in entries:
            book.append(one)


def test_lines_come_back(tmp_path):
    path = tmp_path / "new" / "ledger.jsonl"
    write(path, entry(0), entry(1))
    write(path, entry(2))
    assert ledger.read(path) == [entry(0), entry(1), entry(2)]


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_torn_last_line_is_kept_aside(tmp_path, kept):
    path = tmp_path / "ledger.jsonl"
    write(path, entry(0), entry(1))
    torn = entry(2).line()[:kept]
    with path.open("a") as file:
        file.write(torn)
    assert ledger.read(path) == [entry(0), entry(1)]
    write(path, entry(3))
    assert ledger.read(path) == [entry(0), entry(1), entry(3)]
    assert (tmp_path / "ledger.torn").read_text() == torn + "\n"


def test_a_last_line_that_lacks_only_its_end_counts(tmp_path):
    path = tmp_path / "ledger.jsonl"
    write(path, entry(0), entry(1))
    os.truncate(path, path.stat().st_size - 1)
    write(path, entry(2))
    assert ledger.read(path) == [entry(0), entry(1), entry(2)]
    assert not (tmp_path / "ledger.torn").exists()


def changed(**changes) -> str:
    return json.dumps(json.loads(entry().line()) | changes)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "Expecting"),
        ("[]", "it is no JSON object"),
        (changed(labels=None), "'labels' is wrong"),
        (json.dumps({"key": "a"}), "'labels' is missing"),
        (changed(labels={"seed": 0}), "labels are not text"),
        (changed(configuration={"seed_everything": 9}), "it was edited"),
        (changed(measured={"accuracy": {"hard": 2}}), r"'hard' is 2, which is not in \[0, 1\]"),
        (changed(measured={"accuracy": {"hard": True}}), "'hard' is True"),
        (changed(measured={}), "no accuracies"),
        (changed(versions={}), "lacks 'results'"),
        (changed(after={"row": "a"}), "'after' is wrong"),
        (entry().line().replace("1.0", "NaN"), "NaN is no JSON"),
        (b"\xff", "decode"),
    ],
)
def test_wrong_lines_are_named_with_their_reason(tmp_path, line, reason):
    path = tmp_path / "ledger.jsonl"
    write(path, entry(0))
    with path.open("ab") as file:
        file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(LedgerError, match=f"line 2: .*{reason}"):
        ledger.read(path)


def test_what_is_not_finite_is_null():
    assert entry(accuracy=float("nan")).measured["accuracy"]["reestimated"] is None
    assert entry(accuracy=float("nan")).figure("accuracy.reestimated") is None
    assert entry().figure("accuracy.soft") is None
    assert entry().figure("seconds") == 1.0


def test_a_full_disk_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    path, real = tmp_path / "ledger.jsonl", os.write
    write(path, entry(0))
    before = path.read_bytes()
    monkeypatch.setattr(ledger.os, "write", lambda descriptor, line: real(descriptor, line[:100]))
    with pytest.raises(OSError, match=r"cannot write 'ledger\.jsonl': make room on its disk"):
        write(path, entry(1))
    assert path.read_bytes() == before


def test_of_rows_with_the_same_labels_the_newest_counts():
    old, other, new = entry(0), entry(1), entry(0, 0.7)
    assert ledger.newest([old, other, new]) == [new, other]
