"""The JSON metadata of a packed file: version, layers, aliases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from proxconnect.deploy.packed.file.layer_spec import LayerSpec
from proxconnect.deploy.packed.file.tensor_file import CHECKSUM, REMEDY
from proxconnect.deploy.packed.half_vectors import Vectors

KEY = "proxconnect"
"""The metadata key of the safetensors file."""
VERSION = 3
"""The version of the layout that `save` writes. Older versions can be read."""

_FIRST_WITH_CHECKSUM = 3
_KEYS = {"version", "layers", "aliases", "vectors"}


@dataclass(frozen=True)
class Metadata:
    """The packed layers by qualified name, and the stored tensor that each alias stands for."""

    layers: Mapping[str, LayerSpec]
    aliases: Mapping[str, str]
    vectors: Vectors = "float32"
    """"float16" if float32 vectors may be stored in 16 bits."""

    def to_json(self) -> str:
        """Return the text under the metadata key."""
        layers = {name: spec.to_json() for name, spec in self.layers.items()}
        content = {"version": VERSION, "layers": layers, "aliases": dict(self.aliases), "vectors": self.vectors}
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> "Metadata":
        """Read the metadata of a safetensors file; ValueError states the fault."""
        if KEY not in entries:
            raise ValueError(
                "it is a safetensors file, but no packed model: save one with pc.save(pc.pack(model), path)"
            )
        try:
            content: dict[str, Any] = json.loads(entries[KEY], object_pairs_hook=_without_duplicates)
        except RecursionError:
            raise ValueError("its metadata is nested too deeply: the file is damaged") from None
        except ValueError as error:
            raise ValueError(f"its metadata is no valid JSON ({error}): the file is damaged") from None
        version = content.get("version") if isinstance(content, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError(f"its metadata has no valid version, but {version!r}: the file is damaged")
        if version > VERSION:
            raise ValueError(f"it was written by a newer proxconnect (layout {version}, this reads {VERSION}): upgrade")
        if version >= _FIRST_WITH_CHECKSUM and CHECKSUM not in entries:
            raise ValueError(f"it is damaged (its checksum is missing): {REMEDY}")
        if version == 1:
            content.setdefault("vectors", "float32")
        if set(content) != _KEYS:
            raise ValueError(f"its metadata must have the keys {', '.join(sorted(_KEYS))}: the file is damaged")
        if content["vectors"] not in get_args(Vectors):
            raise ValueError(f"the vectors in its metadata are {content['vectors']!r}, not one of "
                             f"{', '.join(get_args(Vectors))}: the file is damaged")  # fmt: skip
        layers, aliases = content["layers"], content["aliases"]
        if not isinstance(layers, dict) or not layers:
            raise ValueError("its metadata names no layers: the file is damaged")
        if not isinstance(aliases, dict) or not all(isinstance(target, str) for target in aliases.values()):
            raise ValueError("the aliases in its metadata must be an object of strings: the file is damaged")
        specs = {}
        for name, entry in layers.items():
            try:
                specs[name] = LayerSpec.from_json(entry)
            except ValueError as error:
                raise ValueError(f"the metadata of layer {name!r} is wrong: {error}") from None
        return cls(specs, aliases, content["vectors"])


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content
