"""Plant every fault in a copy of a commit and see which test catches it.

Run from tests/: python -m planted.run [--commit COMMIT] [--only NAME ...]. Faults that the ledger has as caught in that
commit are not tried again, so that an interrupted run goes on. docs/development/planted-faults.md is made of the
ledger. The exit status is 1 if a fault is not caught.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterable

from planted import ledger
from planted.fault import Fault
from planted.ledger import FAULTS, Row, digest
from planted.tree import BuildError, Report, Tree

LIMIT = 900.0
"""Seconds that the tests of one fault may take."""


def main() -> int:
    """Try what is left, then print what was not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD", help="the commit to plant faults in (default: HEAD)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of faults (default: all)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which ends the tests too
    tree = Tree(options.commit)
    tree.prepare()
    chosen = [fault for fault in FAULTS if options.only is None or fault.name in options.only]
    _try_all(tree, chosen)
    ledger.write_page()
    found = ledger.newest(tree.commit)
    missed = [fault for fault in chosen if found[fault.name].outcome != "caught"]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults caught in {tree.commit}")
    return 1 if missed else 0


def _note(row: Row) -> None:
    ledger.add(row)
    print(f"{row.fault:36} {row.outcome:16} {row.seconds:6.1f} s  {row.test}", flush=True)


def _try_all(tree: Tree, chosen: list[Fault]) -> None:
    """Try what is not caught yet, and once more what was caught by a test that fails without a fault as well."""
    done, broken = ledger.newest(tree.commit), set[str]()
    left = [fault for fault in chosen if fault.name not in done or done[fault.name].outcome != "caught"]
    while True:
        for fault in left:
            _note(_tried(tree, fault, broken))
        for test in _failing_without_faults(tree, chosen):
            print(f"{test} fails without a fault as well", flush=True)
            broken.add(_function(test))
        done = ledger.newest(tree.commit)
        left = [fault for fault in chosen if _function(done[fault.name].test) in broken]
        if not left:
            return


def _function(test: str) -> str:
    """A test without its parameters."""
    return test.split("[")[0]


def _tried(tree: Tree, fault: Fault, broken: Iterable[str]) -> Row:
    """Plant one fault and run its tests, but for those that fail anyway."""
    begun = time.perf_counter()
    outcome, test = _outcome(tree, fault, broken)
    return Row(fault.name, digest(fault), tree.commit, outcome, test, round(time.perf_counter() - begun, 1))


def _outcome(tree: Tree, fault: Fault, broken: Iterable[str]) -> tuple[str, str]:
    tree.restore()
    try:
        fault.plant(tree.path)
        if fault.is_in_kernels:
            tree.build()
    except ValueError as error:
        return "MUST BE UPDATED", str(error)
    except BuildError as error:
        return "DID NOT BUILD", str(error)
    tests = [test for test in fault.tests if (tree.path / test).exists()]
    if not tests:
        return "SURVIVED", "this commit has none of its tests"
    return _verdict(tree.run(tests, without=broken, limit=LIMIT))


def _verdict(report: Report) -> tuple[str, str]:
    """The outcome, and the test that decided it."""
    if report.failed:
        return "caught", report.failed[0]
    last = report.began[-1] if report.began else "before the first test"
    if report.status is None:
        return "TIMED OUT", last
    if report.status == 0:
        return "SURVIVED", f"{len(report.began)} tests"
    if report.status < 0 or report.status > 5:  # pytest's own are 0 to 5
        return "caught", last
    raise RuntimeError(f"pytest ended with status {report.status}: see output.txt below build/planted/")


def _failing_without_faults(tree: Tree, faults: list[Fault]) -> set[str]:
    """Those tests that caught a fault but fail without one as well, found in one run of pytest."""
    found = ledger.newest(tree.commit)
    tests = {row.test for f in faults if (row := found.get(f.name)) is not None and row.outcome == "caught"}
    if not tests:
        return set()
    tree.restore()
    report = tree.run(sorted(tests), stops=False, limit=LIMIT + 10 * len(tests))
    if report.status not in (0, 1):
        raise RuntimeError(
            f"pytest ended with status {report.status} without a fault: see output.txt below build/planted/"
        )
    return set(report.failed)


if __name__ == "__main__":
    sys.exit(main())
