"""What names a network, and the networks that there are."""

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


NETWORKS = {
    "itracker4": "gazepipe.models.itracker:itracker4",
    "mobile_gaze": "gazepipe.models.mobile:mobile_gaze",
    "resnet10_wide": "gazepipe.models.resnet:resnet10_wide",
    "resnet18": "gazepipe.models.resnet:resnet18",
    "simvit": "gazepipe.models.simvit:simvit",
}
"""Each network by its name: "module:function". It is imported when it is built, so a change in one leaves the runs of
others alone."""
