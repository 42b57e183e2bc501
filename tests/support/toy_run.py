"""A toy network's run: its store, split, weights and predictions, and what exporting it takes."""

from pathlib import Path

from toy_network import lively_network
from toy_store import HEIGHT, PATCH, WIDTH, write_toy_split, write_toy_store

from gazepipe.models.weights import save_weights

SPEC = {"arch": "toy_network:toy_network", "width": 1.0, "input": [1, HEIGHT, WIDTH]}
TRAINING = {
    "batch_size": 32,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 0.0,
    "clip_norm": 5.0,
    "loss": "smooth_l1",
    "augmentation": dict.fromkeys(
        ("crop", "flip", "blur", "sharpness", "mixup", "pairs", "shift", "brightness", "contrast", "noise"), 0.0
    ),
}
BLOCK = {
    "fold": 0,
    "model": SPEC,
    "seed": 0,
    "threads": 1,
    "device": "cpu",
    "calibration": 48,
    "tolerance": 10.0,
    "fine_tuning": None,
    "training": TRAINING,
    "statistics": {"resamples": 1000, "seed": 0},
    "about": {"dataset": "toy", "model": "resnet18", "method": "base", "drawn": True, "licence": "made up, free"},
}
NORMALISATION = {"mean": 0.4, "std": 0.3, "patch": PATCH}


def inputs_of(run: Path) -> list[Path]:
    return [run / name for name in ("model.safetensors", "toy.h5", "toy.csv", "predicted.csv")]


def write_toy_run(folder: Path, per_subject: int = 20) -> Path:
    """`folder` with a toy store, its split, and the weights of a network that was never trained."""
    write_toy_store(folder / "toy.h5", per_subject=per_subject)
    write_toy_split(folder / "toy.csv")
    save_weights(folder / "model.safetensors", lively_network(SPEC), SPEC, NORMALISATION)
    return folder
