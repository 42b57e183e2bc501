"""Structural pruning in steps, with training between them in which the network recovers."""

from collections.abc import Callable

import torch
from torch import nn

from gazepipe.methods.structural.prune import prune, schedule
from gazepipe.models.registry import build
from gazepipe.training.fit import Fitted, derived_seed
from gazepipe.training.losses import loss_of, supervised
from gazepipe.training.samples import Samples, judged
from gazepipe.training.state import State

JUDGED = 256
"""Images that tell which channels matter; more change the ranking little."""

Recover = Callable[[nn.Module, dict, dict, State | None], Fitted]
"""(model, its spec, training block, state): train the model in place."""


def prune_in_steps(
    block: dict, model: nn.Module, spec: dict, samples: Samples, recover: Recover, state: State | None
) -> tuple[nn.Module, dict, list[dict]]:
    """The network after the last of its prunings, its spec, and the history of the trainings before that.

    `block` is that of the stage; its "structural" is {"target", "ratio", "importance", "scope", "round_to": see
    `structural.prune`, "steps": number of prunings, "epochs" of `recover` after each but the last}. Channels are judged
    on `samples`, those of the training subjects. With a `state` each recovery is kept beside it, and a killed
    run goes on behind the last. Deterministic. Raises UserError as `structural.prune` does.
    """
    settings, training, history = block["structural"], block["training"], []
    *others, last = schedule(settings["ratio"], settings["steps"])
    for step, ratio in enumerate(others, 1):
        kept = state.part(f"step{step}") if state is not None else None
        found = kept.load("recovered") if kept is not None else None
        if found is None:
            model, spec = _pruned(settings, ratio, model, spec, samples, training["loss"])
            torch.manual_seed(derived_seed(block["seed"], f"step{step}"))
            under_way = state.part(f"step{step}-training") if state is not None else None
            fitted = recover(model, spec, {**training, "epochs": settings["epochs"]}, under_way)
            found = model.state_dict(), {"spec": spec, "history": fitted.history}
            if kept is not None:
                kept.save(*found)
        # Both ways through a network built anew: layouts in memory decide the order of sums.
        tensors, facts = found
        spec, history = facts["spec"], history + facts["history"]
        with torch.random.fork_rng(devices=[]):
            model = build(spec)
        model.load_state_dict(tensors)
    model, spec = _pruned(settings, last, model, spec, samples, training["loss"])
    torch.manual_seed(derived_seed(block["seed"], f"step{settings['steps']}"))
    return model, spec, history


def _pruned(
    settings: dict, ratio: float, model: nn.Module, spec: dict, samples: Samples, loss: str
) -> tuple[nn.Module, dict]:
    images, target = judged(samples, JUDGED, torch.device("cpu"))
    chosen = {name: settings[name] for name in ("target", "scope", "round_to")}
    objective = supervised(loss_of(loss, samples.units))
    return prune(model.cpu(), spec, images, target, objective, ratio=ratio, criterion=settings["importance"], **chosen)
