"""Append keys and values to the caches of transformers without copying the tokens before."""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor


class Room:
    """The keys and values of one layer of a cache, with memory for more tokens after them.

    The cache sees views of the tokens that exist. Memory after them belongs to the room alone, so views that others
    hold stay as they are.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.tokens = keys.shape[2]
        self.keys, self.values = self._with_room(keys), self._with_room(values)
        self._shown: tuple[Tensor, Tensor] | None = None

    def _with_room(self, cached: Tensor) -> Tensor:
        more = 64 + self.tokens // 2
        whole = torch.empty(*cached.shape[:2], self.tokens + more, cached.shape[3], dtype=cached.dtype)
        whole[:, :, : self.tokens] = cached
        return whole

    def is_shown_by(self, layer: Any) -> bool:
        """Return True if the layer of a cache still has the tokens that this room gave it, and one more fits."""
        shown = self._shown
        is_same = shown is not None and layer.keys is shown[0] and layer.values is shown[1]
        return is_same and self.tokens < self.keys.shape[2]

    def show(self, layer: Any) -> None:
        """Let the layer of a cache see one more token, whose key and value were written."""
        self.tokens += 1
        self._shown = self.keys.narrow(2, 0, self.tokens), self.values.narrow(2, 0, self.tokens)
        layer.keys, layer.values = self._shown


_rooms: "WeakKeyDictionary[Any, Room]" = WeakKeyDictionary()


def room_in(layer: Any) -> Room:
    """Return the room of a cache's layer; a new one if another hand has changed its keys or values, or it is full."""
    room = _rooms.get(layer)
    if room is None or not room.is_shown_by(layer):
        room = _rooms[layer] = Room(layer.keys, layer.values)
    return room


def growing_layer(cache: Any, index: int) -> Any:
    """Return layer `index` of a `DynamicCache` of transformers if it holds float32 tokens on the CPU, else None."""
    layers = getattr(cache, "layers", ())
    if type(cache).__name__ != "DynamicCache" or getattr(cache, "offloading", False) or index >= len(layers):
        return None
    layer = layers[index]
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if type(layer).__name__ != "DynamicLayer" or type(keys) is not Tensor or type(values) is not Tensor:
        return None
    is_plain = keys.dtype is torch.float32 and keys.is_cpu and keys.dim() == 4 and keys.shape == values.shape
    return layer if is_plain else None
