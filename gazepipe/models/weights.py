"""Weights as safetensors, with the model's spec in the header; nothing is unpickled."""

import json
import textwrap
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from gazepipe.common.files import atomic
from gazepipe.errors import UserError
from gazepipe.models.registry import build, checked_spec
from gazepipe.models.settings import NETWORKS

HEADER = "gazepipe"


def save_weights(path: str | Path, model: nn.Module, spec: dict, extra: dict | None = None) -> None:
    """Write the state of `model`, built from `spec`, atomically; equal weights give equal bytes.

    The header holds one JSON text: `extra` (builtins only) with the spec under "model".
    """
    metadata = {**(extra or {}), "model": checked_spec(spec)}
    # One header entry: safetensors writes several in an order of its own that differs from run to run.
    header = {HEADER: json.dumps(metadata, sort_keys=True)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic(path) as partial:
        save_file(tensors, partial, metadata=header)


def load_weights(path: str | Path, expect_spec: dict | None = None) -> tuple[nn.Module, dict]:
    """The network of a weights file on the CPU, in training mode, and the file's metadata.

    torch's random state is left as it was. With `expect_spec` the file must hold that very model; a user's
    own network (a dotted name) is only imported if `expect_spec` names it, so that no foreign file chooses
    what is imported. Raises UserError for a file that is missing, damaged, without a gazepipe header or of
    another model.
    """
    metadata, tensors = _read(Path(path))
    spec = checked_spec(metadata["model"])
    if expect_spec is not None and spec != checked_spec(expect_spec):
        raise UserError(
            f"{path}: holds the model {_name(spec)}, expected {_name(checked_spec(expect_spec))}; "
            "name the right file, or delete this one and train again"
        )
    if expect_spec is None and spec["arch"] not in NETWORKS:
        raise UserError(f"{path}: needs the network {spec['arch']!r}; load it with the spec that names it")
    with torch.random.fork_rng(devices=[]):
        model = build(spec)
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"{path}: its tensors do not fit {_name(spec)}; it was written by another version, train again"
        ) from None
    return model, metadata


def read_metadata(path: str | Path) -> dict:
    """The metadata of a weights file, without building its network. Errors as `load_weights`."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; run the training that writes it")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        metadata = json.loads(header[HEADER])
        checked_spec(metadata["model"])
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or not safetensors ({reason}); delete it, train again") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: no gazepipe weights (header without a model); name another file") from None
    return metadata, tensors


def _name(spec: dict) -> str:
    options = ", ".join(f"{name} {value}" for name, value in sorted(spec["options"].items()))
    size = f"width {spec['width']:g} for {'x'.join(map(str, spec['input']))}"
    narrowed = f" with {len(spec['channels'])} narrowed layers" if "channels" in spec else ""
    return f"{spec['arch']} of {size}{narrowed}" + (f" ({textwrap.shorten(options, 120)})" if options else "")
