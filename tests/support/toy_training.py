"""Small trainings on the toy store: their settings, small shares of every kind of method, and the stage with its files
in one folder."""

from pathlib import Path

from toy_store import HEIGHT, WIDTH

from gazepipe.methods.settings import TrainSettings
from gazepipe.methods.train import train
from gazepipe.training.losses import Objective
from gazepipe.training.method import Regime
from gazepipe.training.settings import Augmentation, Training

SPEC = {"arch": "resnet18", "width": 0.125, "input": [1, HEIGHT, WIDTH]}
POINT_SPEC = {"arch": "resnet18", "width": 0.125, "input": [4, 24, 32]}
TRAINING = Training(epochs=2, batch_size=32, learning_rate=2e-3, step_epochs=2, precision="fp32")
OFF = Augmentation(**dict.fromkeys(Augmentation.model_fields, 0))
AUGMENTATION = OFF.model_copy(
    update={"crop": 0.1, "flip": 0.1, "blur": 0.1, "pairs": 0.1, "contrast": 0.1, "noise": 0.02}
)
FEATURE = {"stages": [0, 1], "temperature": 0.5, "masked": 0.1, "attention": 0.1, "non_local": 0.1}
KD = {"response": 1.0, "random_target": True, "reliability": True, "feature": FEATURE}
REBIRTH = {"share": 0.15, "generations": 2, "epochs": 1, "pearson": 0.1}
STRUCTURAL = {"ratio": 0.5, "round_to": 2, "steps": 2, "epochs": 1}


def training(**changes) -> Training:
    """TRAINING with some changes, checked."""
    return Training.model_validate({**TRAINING.model_dump(), **changes})


def settings(
    training: dict | None = None, augmentation: Augmentation = AUGMENTATION, kinds: dict | None = None, **changes
) -> TrainSettings:
    """Of the stage, for the network SPEC; `training` changes TRAINING, `changes` the rest."""
    return TrainSettings.model_validate(
        {
            "model": SPEC,
            "training": {**TRAINING.model_dump(), **(training or {})},
            "augmentation": augmentation,
            "kinds": kinds or {},
            "device": "cpu",
            "fold": 0,
            "seed": 0,
            **changes,
        }
    )


def regime(objective: Objective, training: Training = TRAINING, **more) -> Regime:
    """With the augmentation AUGMENTATION."""
    return Regime(objective, training, AUGMENTATION, **more)


def run(
    settings: TrainSettings,
    store: Path,
    split: Path,
    out: Path,
    parent: Path | None = None,
    teacher: Path | None = None,
    **more,
) -> Path:
    """Carry out the stage; the three files that it writes lie in `out`. Returns the weights."""
    weights = out / "model.safetensors"
    files = {"weights": weights, "history": out / "history.csv", "facts": out / "run.json"}
    train(settings, store, split, **files, parent=parent, teacher=teacher, **more)
    return weights
