import pytest
from toy_page import paged_run
from toy_results import Run


@pytest.fixture(scope="session")
def paged(tmp_path_factory) -> Run:
    """A toy run with its page: gaze angles and gaze points. To be read only."""
    return paged_run(tmp_path_factory.mktemp("paged") / "results")
