"""The report of a sweep as a page of the docs."""

from typing import Any

HEAD = """# Networks that were tried

`make test-sweep` writes this page from `networks.jsonl` beside it. Each network has random weights and goes through:
`binarize`; the float state dict loads with `strict=True`; a training step in which every binary layer gets a gradient;
`eval`; `hard_state_dict`, by which the float network answers alike; `pack`, proved layer by layer; `save`, `load`, and
the same proof of what was loaded.

BW: binary weights. BWA: binary inputs too; a layer whose weight other code takes keeps float inputs, and `binarize`
says which. Convolutions that standardise their weights (`ScaledStdConv2d` of NFNets) stay float in both. Of timm the
smallest model of each family is tried, of torchvision all but 8-bit ones, of transformers tiny configurations.
"""


def written(entries: list[dict[str, Any]]) -> str:
    """The page: counts, what failed, what was said, and all names."""
    libraries = list(dict.fromkeys(entry["library"] for entry in entries))
    modes = list(dict.fromkeys(entry["mode"] for entry in entries))
    parts = [HEAD, _counts(entries, libraries, modes)]
    failed = [f"- {_place(entry)}: {entry['error']}" for entry in entries if entry["error"]]
    parts += ["## What fails\n", *failed] if failed else []
    said = [f"- {_place(entry)}: {entry['said']}" for entry in entries if entry["said"] and not entry["error"]]
    parts += ["\n## What stays float\n", *said] if said else []
    for library in libraries:
        names = dict.fromkeys(entry["name"] for entry in entries if entry["library"] == library)
        parts.append(f"\n## {library}\n\n{', '.join(names)}")
    return "\n".join(parts) + "\n"


def _counts(entries: list[dict[str, Any]], libraries: list[str], modes: list[str]) -> str:
    lines = [f"| | {' | '.join(modes)} |", f"|---|{'---:|' * len(modes)}"]
    for library in libraries:
        cells = []
        for mode in modes:
            found = [e for e in entries if (e["library"], e["mode"]) == (library, mode)]
            cells.append(f"{sum(e['error'] is None for e in found)} of {len(found)}")
        version = next(e["versions"][library] for e in entries if e["library"] == library)
        lines.append(f"| {library} {version} | {' | '.join(cells)} |")
    minutes = sum(entry["seconds"] for entry in entries) / 60
    return "\n".join(lines) + f"\n\nIt took {minutes:.0f} minutes of one thread, without imports and first weights.\n"


def _place(entry: dict[str, Any]) -> str:
    return f"{entry['library']} {entry['name']} {entry['mode']}"
