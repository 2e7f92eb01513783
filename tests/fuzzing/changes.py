"""Changes of what files hold: bytes, trees of plain data, lines of text. Each draws from a given generator alone."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

INTERESTING = [0, 1, -1, 2, 7, 127, 128, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
LARGEST = 1 << 16
"""Bytes of a file beyond which none grows."""


def bytes_changed(data: bytes, random: Random) -> bytes:
    """A few changes, none of which knows what the bytes mean."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        place = random.randrange(len(changed) + 1)
        random.choice(_BYTE_CHANGES)(changed, place, random)
    return bytes(changed[:LARGEST])


def _flip(data: bytearray, place: int, random: Random) -> None:
    if place < len(data):
        data[place] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, place: int, random: Random) -> None:
    width = random.choice((1, 2, 4, 8))
    number = random.choice(INTERESTING) % (1 << 8 * width)
    data[place : place + width] = number.to_bytes(width, random.choice(("little", "big")))


def _delete(data: bytearray, place: int, random: Random) -> None:
    del data[place : place + random.choice((1, 2, 8, 64, 1024))]


def _repeat(data: bytearray, place: int, random: Random) -> None:
    data[place:place] = data[place : place + random.choice((1, 8, 64))] * random.choice((1, 2, 100))


def _insert(data: bytearray, place: int, random: Random) -> None:
    data[place:place] = random.randbytes(random.choice((1, 2, 8, 64)))


def _move(data: bytearray, place: int, random: Random) -> None:
    taken = data[place : place + random.choice((1, 4, 32))]
    where = random.randrange(len(data) + 1)
    data[where : where + len(taken)] = taken


def _truncate(data: bytearray, place: int, random: Random) -> None:
    del data[place:]


def _grow(data: bytearray, place: int, random: Random) -> None:
    data += random.choice((b"\0", b" ", b"[", b"\xff")) * random.choice((1, 64, 4096))


_BYTE_CHANGES = (_flip, _flip, _overwrite, _delete, _repeat, _insert, _move, _truncate, _grow)

RAW = {
    "deep": "[" * 1100 + "]" * 1100, "deeper": '{"a":' * 1100 + "1" + "}" * 1100, "open": "[" * 2000,
    "digits": "1" * 4301, "many digits": "9" * 4300, "inf": "Infinity", "nan": "NaN", "huge": "1e999", "-0": "-0",
    "float": "1.0", "surrogate": '"\\ud800"', "null byte": '"\\u0000"', "nothing": "", "comma": ",",
}  # fmt: skip
"""What `json.dumps` does not write; it stands in for the name between two marks."""
_MARK, _TWIN = "@raw@", "@twin@"


def tree_changed(tree: Any, random: Random, vocabulary: list[Any]) -> Any:
    """A few changes of a tree of plain data, in which marks stand for what JSON can hold and Python cannot."""
    holder = [json.loads(json.dumps(tree))]
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(holder))
        container, key = random.choice(places)
        if isinstance(container, dict) and random.random() < 0.3:
            _change_key(container, key, random)
        else:
            container[key] = _value(container[key], random, vocabulary, places)
    return holder[0]


def _places(container: Any) -> Any:
    keys = list(container) if isinstance(container, dict) else range(len(container))
    for key in keys:
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


def _change_key(container: dict[str, Any], key: str, random: Random) -> None:
    value = container.pop(key)
    new = random.choice((None, f"{key}{_TWIN}", f"{key}x", "", "self", "__class__", "a.b", "\ud800", "x" * 300))
    if new is not None:
        container[new] = value
    if random.random() < 0.5:
        container[key] = value


def _value(old: Any, random: Random, vocabulary: list[Any], places: list[Any]) -> Any:
    choices: list[Callable[[], Any]] = [
        lambda: random.choice((None, True, False, "", "a", [], {}, [[]], [None], {"": {}}, 0.5, -0.5, 1e308)),
        lambda: random.choice(INTERESTING) * random.choice((1, -1)), lambda: 10 ** random.choice((20, 300, 4000)),
        lambda: _MARK + random.choice(list(RAW)) + _MARK, lambda: random.choice(vocabulary),
        lambda: [old] * random.choice((1, 2, 100)), lambda: {"a": old}, lambda: "long" * random.choice((1, 1000)),
        lambda: (lambda place: place[0].get(place[1]) if isinstance(place[0], dict) else place[0][place[1]])(
            random.choice(places)
        ),
    ]  # fmt: skip
    if type(old) is int and abs(old) < 2**64:
        choices += [lambda: old + random.choice((-1, 1, 8)), lambda: -old, lambda: old + 0.5, lambda: str(old)] * 2
    value = random.choice(choices)()
    return json.loads(json.dumps(value))  # a copy, lest the tree come to hold itself


def tree_text(tree: Any) -> str:
    """The tree as JSON, or as what only looks like it."""
    text = json.dumps(tree).replace(_TWIN, "")
    for name, raw in RAW.items():
        text = text.replace(f'"{_MARK}{name}{_MARK}"', raw)
    return text


def lines_changed(text: str, random: Random, tokens: list[str]) -> str:
    """A few changes of the lines of a text: left out, twice, elsewhere, indented, with tokens in them."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 2, 4))):
        place = random.randrange(len(lines))
        line, at, token = lines[place], random.randrange(len(lines[place]) + 1), random.choice(tokens)
        lines[place : place + 1] = random.choice((
            [], [line, line], [line, *lines], [random.choice(lines)], [" " * random.choice((1, 2, 4)) + line],
            [line.lstrip()], [line[:at] + token + line[at:]], [line.partition(":")[0] + ": " + token],
            [token + ": " + line.partition(":")[2]],
        ))  # fmt: skip
        lines = lines or [""]
    return "\n".join(lines)[:LARGEST]
