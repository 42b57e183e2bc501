"""When jobs run on so many cores."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazepipe.dag.schedule import Task, chains, longest_chain, makespan

DIAMOND = {
    "data": Task(10, 1, []),
    "short": Task(5, 1, ["data"]),
    "long": Task(20, 1, ["data"]),
    "tables": Task(3, 1, ["short", "long"]),
}


def test_the_longest_chain_is_the_time_on_many_cores():
    assert chains(DIAMOND) == {"data": 33, "short": 8, "long": 23, "tables": 3}
    assert longest_chain(DIAMOND) == ["data", "long", "tables"]
    assert makespan(DIAMOND, 2) == 33
    assert makespan(DIAMOND, 1) == 38


def test_the_longest_chain_starts_first():
    jobs = {"a": Task(1, 1, []), "b": Task(1, 1, []), "first": Task(1, 1, []), "last": Task(5, 1, ["first"])}
    assert makespan(jobs, 1) == 8
    assert makespan(jobs, 2) == 6
    # In the order of the names the chain begins after a and b.
    assert makespan(jobs, 2, {"a": 3, "b": 2, "first": 1, "last": 0}) == 7


def test_a_job_that_takes_every_core_runs_alone():
    jobs = {"wide": Task(4, 8, []), "a": Task(2, 1, []), "b": Task(2, 1, [])}
    assert makespan(jobs, 2) == 6
    assert makespan(jobs, 16) == 4


def test_jobs_outside_are_done():
    assert makespan({"b": Task(2, 1, ["a"])}, 1) == 2
    assert makespan({}, 4) == 0


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    return {
        number: Task(
            draw(st.floats(0.1, 100)),
            draw(st.integers(1, 4)),
            draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else [],
        )
        for number in range(count)
    }


@given(graphs(), st.integers(1, 8))
def test_a_schedule_is_no_shorter_than_its_bounds_and_within_grahams(tasks, cores):
    found = makespan(tasks, cores)
    longest = max(chains(tasks).values())
    work = sum(task.seconds * min(task.cores, cores) for task in tasks.values())
    assert found >= max(longest, work / cores) - 1e-6
    assert found <= sum(task.seconds for task in tasks.values()) + 1e-6


@given(graphs())
def test_a_chain_ends_with_its_last_task(tasks):
    chain = longest_chain(tasks)
    assert sum(tasks[job].seconds for job in chain) == pytest.approx(max(chains(tasks).values()))
    assert all(before in tasks[after].after for before, after in pairwise(chain))
