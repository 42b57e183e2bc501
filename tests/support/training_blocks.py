"""Blocks of configuration for toy trainings: two epochs, and small shares of every kind of method."""

TRAINING = {
    "epochs": 2,
    "batch_size": 50,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "step_epochs": 2,
    "step_factor": 0.1,
    "clip_norm": 5.0,
    "ema": 0.0,
    "precision": "fp32",
    "loss": "smooth_l1",
    "threads": 1,
    "tensorboard": False,
    "augmentation": {"crop": 0.2, "blur": 0.1, "pairs": 0.2, "shift": 0.1, "contrast": 0.1, "noise": 0.02},
}
FEATURE = {"stages": [0, 1], "temperature": 0.5, "masked": 0.1, "attention": 0.1, "non_local": 0.1}
KD = {"response": 1.0, "random_target": True, "reliability": True, "feature": FEATURE}
REBIRTH = {"share": 0.15, "generations": 2, "epochs": 1, "max_filters": 128, "pearson": 0.1}
STRUCTURAL = {
    "target": "macs",
    "ratio": 0.5,
    "criterion": "taylor",
    "scope": "global",
    "round_to": 2,
    "steps": 2,
    "epochs": 1,
}
