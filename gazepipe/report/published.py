"""Figures published for the earlier face-gaze prototype, measured on real data; never mixed with ours."""

import pandas as pd

NOTE = (
    "*Published by the earlier prototype, measured on **real** Columbia Gaze and MPIIFaceGaze images with other"
    " protocols; shown for orientation, not to be compared with the rows above.*"
)
BENCHMARK = pd.DataFrame(
    [
        ("ResNet10 (wide)", 4.00, 4.97),
        ("ResNet10 (wide) + KD", 4.02, 4.87),
        ("ResNet10 (wide) + KD + Prune", 3.98, 4.81),
        ("ResNet18", 4.11, 5.26),
        ("ResNet18 + KD", 4.10, 5.26),
        ("ResNet18 + KD + Prune", 3.85, 4.64),
    ],
    columns=["Model", "Columbia Gaze", "MPIIGaze"],
)

CROSS_DATASET = pd.DataFrame(
    [
        ("ResNet10 (wide)", 11.31, 12.96),
        ("ResNet10 (wide) + KD", 11.20, 12.01),
        ("ResNet10 (wide) + KD + Prune", 11.41, 12.71),
        ("ResNet18", 11.22, 12.55),
        ("ResNet18 + KD", 10.87, 12.26),
        ("ResNet18 + KD + Prune", 11.14, 12.74),
    ],
    columns=["Model", "Columbia -> MPIIGaze", "MPIIGaze -> Columbia"],
)

INFERENCE_SPEED = pd.DataFrame(
    [
        ("ResNet10 (wide)", "3.19 M", "32.45 G", "14.6"),
        ("ResNet18", "11.17 M", "1.75 G", "13.2"),
    ],
    columns=["Model", "Params", "FLOPs", "Throughput (frames/s, M1 CPU)"],
)
