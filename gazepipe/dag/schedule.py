"""When jobs run on so many cores: list scheduling, the longest remaining chain first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

J = TypeVar("J", bound=Hashable)


@dataclass(frozen=True)
class Task:
    """Wall time (s), cores that are held for it, and the tasks that must have ended before."""

    seconds: float
    cores: int
    after: Sequence


def chains(tasks: Mapping[J, Task]) -> dict[J, float]:
    """Seconds from the start of each task to the end of all that waits for it, with as many cores as there may be."""
    waiting: dict[J, list[J]] = {job: [] for job in tasks}
    for job, task in tasks.items():
        for before in task.after:
            if before in waiting:
                waiting[before].append(job)
    found: dict[J, float] = {}
    for job in reversed(in_order(tasks, lambda job: [each for each in tasks[job].after if each in tasks])):
        found[job] = tasks[job].seconds + max((found[each] for each in waiting[job]), default=0.0)
    return found


def longest_chain(tasks: Mapping[J, Task]) -> list[J]:
    """The chain of tasks that takes longest, first to last."""
    lengths = chains(tasks)
    followers: dict[J, list[J]] = {job: [] for job in tasks}
    for job, task in tasks.items():
        for before in task.after:
            if before in followers:
                followers[before].append(job)
    chain: list[J] = []
    nexts = list(tasks)
    while nexts:
        chain.append(max(nexts, key=lengths.__getitem__))
        nexts = followers[chain[-1]]
    return chain


def makespan(tasks: Mapping[J, Task], cores: int, priority: Mapping[J, float] | None = None) -> float:
    """Seconds until all tasks have ended, where a free core takes the ready task of the highest priority (unless given,
    the longest chain) that fits. A task that wants more cores than there are takes all."""
    priority = priority or chains(tasks)
    left = {job: sum(before in tasks for before in task.after) for job, task in tasks.items()}
    followers: dict[J, list[J]] = {job: [] for job in tasks}
    for job, task in tasks.items():
        for before in task.after:
            if before in followers:
                followers[before].append(job)
    order = {job: index for index, job in enumerate(tasks)}
    ready = [(-priority[job], order[job], job) for job in tasks if left[job] == 0]
    heapq.heapify(ready)
    running: list[tuple[float, int, J]] = []
    now, free = 0.0, cores
    while ready or running:
        later = []
        while ready and free:
            entry = heapq.heappop(ready)
            need = min(tasks[entry[2]].cores, cores)
            if need <= free:
                free -= need
                heapq.heappush(running, (now + tasks[entry[2]].seconds, entry[1], entry[2]))
            else:
                later.append(entry)
                if need == cores:
                    # What wants every core waits for them, and nothing overtakes it.
                    break
        for entry in later:
            heapq.heappush(ready, entry)
        now, _, ended = heapq.heappop(running)
        free += min(tasks[ended].cores, cores)
        for job in followers[ended]:
            left[job] -= 1
            if left[job] == 0:
                heapq.heappush(ready, (-priority[job], order[job], job))
    return now


def in_order(starts: Iterable[J], before: Callable[[J], Iterable[J]]) -> list[J]:
    """The `starts` and all that they wait for, each after what it waits for itself: `before` says what that is."""
    found: dict[J, None] = {}
    for start in starts:
        stack = [(start, False)]
        while stack:
            job, ready = stack.pop()
            if ready:
                found.setdefault(job)
            elif job not in found:
                stack.append((job, True))
                stack += [(each, False) for each in before(job) if each not in found]
    return list(found)
