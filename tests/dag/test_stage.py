import pytest

from gazepipe.common.settings import Settings
from gazepipe.dag import settings
from gazepipe.dag.stage import Job, Stage, filled, matching


def test_patterns_are_filled_and_found_again():
    pattern = "{results}/runs/{dataset}/{model}/fold{fold}/{dataset}.csv"
    names = {"dataset": "a-b", "model": "m", "fold": "3"}
    path = filled(pattern, {"results": "results", **names})
    assert path == "results/runs/a-b/m/fold3/a-b.csv"
    rest = filled(pattern, {"results": "results"})
    assert matching(rest, path) == names
    for other in (path.replace("fold3", "foldx"), path.replace("a-b.csv", "c.csv"), f"{path}.gz", f"x/{path}"):
        assert matching(rest, other) is None


def test_a_job_is_named_in_the_order_of_the_wildcards():
    job = Job.of("predict", seed=1, fold=0, method="kd", model="m", dataset="d")
    assert str(job) == "predict d m kd 0 1"
    assert job == Job.of("predict", dataset="d", model="m", method="kd", fold="0", seed="1")


def test_an_output_is_not_called_as_a_method_of_snakemakes_lists():
    with pytest.raises(ValueError, match="may not be called count"):
        Stage(run="m:f", wildcards=(), outputs={"count": "{results}/count.json"})


def test_a_stage_may_have_no_settings():
    stage = Stage(run="m:f", wildcards=(), outputs={"page": "{results}/page.md"})
    made = getattr(settings, stage.settings.partition(":")[2])(None)
    assert type(made) is Settings
    assert made.deciding() == {}
