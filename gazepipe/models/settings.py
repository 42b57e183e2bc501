"""What names a network."""

from typing import Any

from typing_extensions import TypedDict


class Spec(TypedDict, total=False):
    """A network's arguments, as they stand in the header of its weights.

    `arch`: a registered name or "module:function"; `width`: factor on its channels; `input`: [V, H, W], views, height
    and width in pixels; `options`: the network's own; `channels`: sizes of layers that were narrowed, by layer.
    """

    arch: str
    width: float
    input: list[int]
    options: dict[str, Any]
    channels: dict[str, list[int]]
