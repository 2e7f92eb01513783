"""Which layers can have a scale for each group of inputs, as language models of 1 bit have one for 128 weights."""

from proxconnect._support.text import with_article
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.scales import Scale


def require_groups(group_size: int | None, scale: Scale) -> None:
    """Raise TypeError unless `group_size` is a whole number or None; ValueError below 1, or if no channel has a scale.

    `scale` is the option of that name.
    """
    if group_size is None:
        return
    if not isinstance(group_size, int) or isinstance(group_size, bool):
        raise TypeError(f"group_size takes a whole number of inputs, as 128, or None; got {group_size!r}")
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1; got {group_size}")
    if scale not in ("channel", "learned"):
        raise ValueError(f"group_size divides the inputs of a channel, so it needs scale='channel' or 'learned'; got "
                         f"{scale!r}")  # fmt: skip


def require_divisible(group_size: int | None, input_pair: AnyPair | None, inputs: tuple[int, ...], kind: str) -> None:
    """Raise ValueError unless a layer can have a scale for every `group_size` inputs, or that is None.

    Args:
        group_size: the number of inputs that share a scale.
        input_pair: the pair of the layer's inputs; None if they stay float.
        inputs: the number of inputs of each weight of the layer; empty if it is not linear.
        kind: the layer's class, for messages.
    """
    if group_size is None:
        return
    if not inputs:
        raise ValueError(f"group_size is for linear layers, and this is {with_article(kind)}: keep it float, or "
                         "leave group_size out")  # fmt: skip
    if input_pair is not None:
        raise ValueError(
            "group_size is for float inputs, since binary ones are summed before they are scaled: leave activations "
            "or group_size out"
        )
    for count in inputs:
        if count % group_size:
            raise ValueError(f"groups of {group_size} do not divide the {count} inputs of this {kind}: take a divisor "
                             "as group_size, or keep the layer float")  # fmt: skip
