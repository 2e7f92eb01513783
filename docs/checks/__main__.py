"""Run from docs/: python -m checks SITE. Prints each fault of the pages and of the built site; status 1 for any."""

import sys
from pathlib import Path

from checks import code_blocks, docstrings, links, numbers, public_names


def main(site: Path) -> int:
    """What the head of this file says."""
    found = [*public_names.faults(site), *links.faults(site), *links.in_repository(), *numbers.faults()]
    found += [*docstrings.faults(), *code_blocks.faults()]
    print(*found, sep="\n", file=sys.stderr)
    print(f"{len(found)} faults of pages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
