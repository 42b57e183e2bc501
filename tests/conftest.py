import os
from pathlib import Path

import eye_model
import hypothesis
import pytest

# Tests share the cores with whatever else runs: idle threads sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


# The files that take longest, the longest first: begun late, one of them would leave the other processes idle.
LONG = (
    "workflow/test_workflow.py",
    "workflow/test_storage.py",
    "workflow/test_kills.py",
    "workflow/test_near_eye.py",
    "workflow/test_slurm.py",
    "workflow/test_small_run.py",
    "training/test_distributed.py",
    "training/test_resume.py",
    "workflow/test_cluster_profiles.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the long files come first."""
    if hasattr(config, "workerinput"):
        rank = {REPOSITORY / "tests" / name: number for number, name in enumerate(LONG)}
        items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def plain_subject():
    """A drawn subject whose pupils are easy to find."""
    return eye_model.plain_subject()
