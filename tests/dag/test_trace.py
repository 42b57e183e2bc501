"""What ran when on which core, and how much stood idle."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.cli import main
from gazepipe.dag.measured import RUN_FILE, Ran, Started, cost_path
from gazepipe.dag.stages import STAGES
from gazepipe.dag.trace import COLUMNS, place, told_of, trace, traced
from gazepipe.dag.trace_figure import KINDS, OTHER, kind_of
from gazepipe.provenance.checksums import list_files


def job(name: str, began: float, ended: float, cores: int = 1, processor: float = 1.0) -> Ran:
    return Ran(name, began, ended, cores, processor)


RUN = [
    job("fetch faces", 100, 110, processor=8),
    job("train faces a", 110, 150, processor=36),
    job("train faces b", 112, 132, processor=20),
    job("profile a", 150, 160, cores=2, processor=10),
    job("page", 158, 159, cores=0, processor=0.5),
]


def lanes(jobs: list[Ran]) -> dict[str, tuple[int, ...]]:
    return {each.job.name: each.lanes for each in place(jobs)}


def test_each_job_has_the_lowest_free_core():
    assert lanes(RUN) == {
        "fetch faces": (0,),
        "train faces a": (0,),
        "train faces b": (1,),
        "profile a": (0, 1),
        "page": (),
    }


def test_times_that_overlap_by_little_are_of_one_core():
    assert lanes([job("a", 0, 10.05), job("b", 10, 20)]) == {"a": (0,), "b": (0,)}
    assert lanes([job("a", 0, 10.5), job("b", 10, 20)]) == {"a": (0,), "b": (1,)}


def test_the_idle_shares():
    found = traced(RUN, Started(100, 2))
    assert (found.cores, found.began, found.wall) == (2, 100, 60)
    assert found.idle(0) == 0
    assert found.idle(1) == pytest.approx(1 - (20 + 10) / 60)
    assert found.idle_slots == pytest.approx(1 - 90 / 120)
    assert found.processor_seconds == 74.5
    assert found.idle_processor == pytest.approx(1 - 74.5 / 120)
    assert told_of(found) == (
        "5 jobs, 60 s on 2 cores, 74 s of processor time: idle 38% by processor time, 25% without a job"
    )


def test_a_core_that_no_job_had_is_idle():
    found = traced([job("a", 0, 10, processor=10)], Started(0, 4))
    assert [found.idle(lane) for lane in range(4)] == [0, 1, 1, 1]
    assert found.idle_slots == found.idle_processor == 0.75


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 20), st.integers(0, 3)).map(
            lambda each: job(str(each), each[0], each[0] + each[1], each[2])
        ),
        min_size=1,
    )
)
def test_no_core_has_two_jobs_at_once_and_no_more_are_used_than_are_needed(jobs):
    placed = place(jobs)
    assert sorted(map(repr, jobs)) == sorted(repr(each.job) for each in placed)
    for each in placed:
        assert len(set(each.lanes)) == each.job.cores
    for moment in range(71):
        held = [lane for each in placed if each.job.began <= moment < each.job.ended for lane in each.lanes]
        assert len(held) == len(set(held))
    most = max(sum(each.cores for each in jobs if each.began <= moment < each.ended) for moment in range(71))
    assert traced(jobs, None).cores == max(most, 1)


# ---- folders of results


def leave(root, jobs: list[Ran], begun: float | None = None, cores: int = 2) -> None:
    """What the jobs and the run leave in a folder of results."""
    for each in jobs:
        path = cost_path(str(root), each.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        times = {"began": each.began, "ended": each.ended, "processor_seconds": each.processor_seconds}
        path.write_text(json.dumps({"last": {**times, "cores": each.cores}}))
    if begun is not None:
        (root / ".costs" / RUN_FILE).write_text(json.dumps({"began": begun, "cores": cores}))


def test_of_several_runs_the_last_is_shown(tmp_path):
    leave(tmp_path, RUN, begun=109.95)
    found = trace(str(tmp_path))
    assert [each.job.name for each in found.placed] == ["train faces a", "train faces b", "profile a", "page"]
    assert found.wall == 50


def test_results_that_do_not_say_when_runs_began_show_all_jobs(tmp_path):
    leave(tmp_path, RUN)
    assert len(trace(str(tmp_path)).placed) == 5
    (tmp_path / ".costs" / RUN_FILE).write_text('{"began": "soon"}')
    assert len(trace(str(tmp_path)).placed) == 5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{}",
        '{"last": 5}',
        '{"last": {"began": 1, "ended": NaN, "processor_seconds": 1, "cores": 1}}',
        '{"last": {"began": 5, "ended": 5, "processor_seconds": 1, "cores": 1}}',
        '{"last": {"began": 1, "ended": 5, "processor_seconds": 1, "cores": -1}}',
        '{"last": {"began": 1, "ended": 5, "processor_seconds": 1, "cores": 1e9}}',
    ],
)
def test_damaged_notes_are_left_out(tmp_path, content):
    leave(tmp_path, RUN[:1])
    cost_path(str(tmp_path), "tables").write_text(content)
    assert [each.job.name for each in trace(str(tmp_path)).placed] == ["fetch faces"]


def test_results_without_times_end_as_one_line(tmp_path, capsys):
    assert main(["trace", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"gazepipe trace: {tmp_path}: no job of its last run says when it ran; give a folder of results that ran here\n"
    )


def test_the_command_writes_table_and_figures_which_are_no_results(tmp_path, capsys):
    leave(tmp_path, RUN, begun=100)
    assert main(["trace", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [str(tmp_path / f"trace.{end}") for end in ("csv", "svg", "png")]
    table = (tmp_path / "trace.csv").read_text().splitlines()
    assert table[0] == ",".join(COLUMNS)
    assert table[1] == "fetch faces,0.00,10.00,8.00,1,1"
    assert table[4:] == ["profile a,50.00,60.00,10.00,2,1 2", "page,58.00,59.00,0.50,0,"]
    before = (tmp_path / "trace.svg").read_bytes()
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    assert main(["trace", str(tmp_path)]) == 0
    assert (tmp_path / "trace.svg").read_bytes() == before
    assert list_files(tmp_path) == []


def test_every_stage_is_of_one_kind():
    assert [stage for stage in STAGES if kind_of(stage) == OTHER] == []
    assert sum(map(len, KINDS.values())) == len(STAGES)
    assert kind_of("yet unknown") == OTHER
