"""The report of a sweep as a page of the docs: one table, with a row for each network."""

from typing import Any

HEAD = """# Networks that were tried

Does proxconnect take your network? Search this table of {networks} networks from timm, torchvision and transformers.

Every network started with random weights and went through `binarize`, a training step, `pack`, `save` and `load`.
Four checks had to pass:

- `load_state_dict(strict=True)` loads the float weights.
- Every binary layer gets a gradient.
- The packed network and the loaded one agree with the trained one, layer by layer.
- With binary weights only, `hard_state_dict` makes the float network give the same answers.

BW means binary weights, BWA binary weights and inputs. A note names layers that stay float: convolutions that
standardise their weights, and inputs of layers whose weight other code uses.

timm: the smallest model of each family. torchvision: all but 8-bit models. transformers: tiny configurations.
"""

TABLE = """:::{{div}} networks

| network | library | BW | BWA | note |
|---|---|---|---|---|
{rows}

:::

```{{raw}} html
<script defer src="_static/networks.js"></script>
```
"""


def written(entries: list[dict[str, Any]]) -> str:
    """Return the page: the counts, then the table and the search in it."""
    networks: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in entries:
        networks.setdefault((entry["library"], entry["name"]), []).append(entry)
    ordered = sorted(networks.values(), key=lambda found: (found[0]["name"].casefold(), found[0]["library"]))
    rows = "\n".join(_row(found) for found in ordered)
    return "\n".join([HEAD.format(networks=len(networks)), _counts(entries), TABLE.format(rows=rows)])


def _row(found: list[dict[str, Any]]) -> str:
    by_mode = {entry["mode"]: entry for entry in found}
    cells = [_passed(by_mode[mode]) if mode in by_mode else "" for mode in ("BW", "BWA")]
    return f"| {found[0]['name']} | {found[0]['library']} | {cells[0]} | {cells[1]} | {_note(found)} |"


def _passed(entry: dict[str, Any]) -> str:
    return "yes" if entry["error"] is None else "no"


def _note(found: list[dict[str, Any]]) -> str:
    """Return the remarks of all modes, each once, with the modes that it holds for unless these are all."""
    modes: dict[str, list[str]] = {}
    for entry in found:
        if remark := entry["error"] or entry["said"]:
            modes.setdefault(remark.replace("|", "\\|"), []).append(entry["mode"])
    return "; ".join(
        remark if len(of) == len(found) else f"{' and '.join(of)}: {remark}" for remark, of in modes.items()
    )


def _counts(entries: list[dict[str, Any]]) -> str:
    libraries = list(dict.fromkeys(entry["library"] for entry in entries))
    modes = list(dict.fromkeys(entry["mode"] for entry in entries))
    lines = [f"| passed | {' | '.join(modes)} |", f"|---|{'---:|' * len(modes)}"]
    for library in libraries:
        cells = []
        for mode in modes:
            found = [e for e in entries if (e["library"], e["mode"]) == (library, mode)]
            cells.append(f"{sum(e['error'] is None for e in found)} of {len(found)}")
        version = next(e["versions"][library] for e in entries if e["library"] == library)
        lines.append(f"| {library} {version} | {' | '.join(cells)} |")
    minutes = sum(entry["seconds"] for entry in entries) / 60
    made = f"`make test-sweep` writes this page. It took {minutes:.0f} minutes on one thread, without imports."
    return "\n".join([*lines, "", made, ""])
