"""What a network costs, whatever the machine: parameters and multiply-adds."""

import copy
import re
import warnings

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from gazepipe.errors import UserError

COUNTED = {"conv", "linear", "matmul", "addmm", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"}
"""Names under which fvcore books multiply-adds. Its figures for normalisation and pooling are left out: they
are element-wise work that folds into the neighbouring layers, as in published counts."""
PRODUCTS = re.compile(r"conv|mm$|matmul|linear|attention|lstm|gru|rnn|einsum|dot|PythonOp")
"""Operators that multiply matrices: to pass over one of them would make a network look cheap."""


def count(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Cost of one forward pass of one image of `input_shape` [C, H, W].

    Returns {"params": trainable and frozen parameters that the output depends on, "macs": multiply-adds of
    convolutions and matrix products (one multiply-add is one "FLOP" of the published tables)}. Products made
    of element-wise operators count where their module has `uncounted_macs(*inputs)`. The model is left as it
    was. Raises UserError for an operator that holds a product and cannot be counted, like a convolution with
    padding="same".
    """
    network = copy.deepcopy(model).cpu().float().eval()
    example = torch.zeros(1, *input_shape)
    params, extra_macs = _parameters_that_take_part(network, example)
    return {"params": params, "macs": _fvcore_macs(network, example) + extra_macs}


def _parameters_that_take_part(network: nn.Module, example: torch.Tensor) -> tuple[int, int]:
    """Numbers in the parameters that receive a gradient from the output, and the sum of `uncounted_macs`."""
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    sizes = [parameter.numel() for parameter in parameters]
    extra_macs: list[int] = []

    def note_macs(module: nn.Module, inputs: tuple) -> None:
        extra_macs.append(module.uncounted_macs(*inputs))

    hooks = [
        module.register_forward_pre_hook(note_macs) for module in network.modules() if hasattr(module, "uncounted_macs")
    ]
    gradients = torch.autograd.grad(network(example).sum(), parameters, allow_unused=True)
    for hook in hooks:
        hook.remove()
    used = [size for size, gradient in zip(sizes, gradients, strict=True) if gradient is not None]
    return sum(used), sum(extra_macs)


def _fvcore_macs(network: nn.Module, example: torch.Tensor) -> int:
    analysis = FlopCountAnalysis(network, example)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecation
        by_operator = analysis.by_operator()
    missed = sorted(name for name in analysis.unsupported_ops() if PRODUCTS.search(name))
    if missed:
        raise UserError(
            f"{type(network).__name__}: cannot count the multiply-adds of {', '.join(missed)}; write it with "
            'countable layers (explicit padding, not padding="same") or give its module uncounted_macs()'
        )
    return int(sum(macs for name, macs in by_operator.items() if name in COUNTED))


def _attention_macs(inputs: list, outputs: list) -> dict[str, int]:
    """Both products of softmax(q k^T) v with q [..., n, d], k [..., m, d], v [..., m, e]."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    *batch, positions, depth = query
    rows = torch.Size(batch).numel() * positions
    return {"scaled_dot_product_attention": rows * key[-2] * (depth + value[-1])}
