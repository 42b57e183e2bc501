"""A configuration of the tests' own: two face sets and a near-eye set, three models, methods that stand on each other.

Another default run changes no test that reads it.
"""

from pathlib import Path

from gazepipe.config import load

PATH = Path(__file__).with_name("config.yaml")


def toy_config() -> dict:
    return load.read(PATH)
