"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import importlib.util
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
LOG_EVERY_SECONDS = 30.0


def track(items: Iterable[Item], label: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Yield `items`, showing rate and time left on stderr: tqdm on a terminal, one line per 30 s elsewhere.

    Lines, too, where tqdm is not installed, as on a machine that only runs exported networks.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty() and importlib.util.find_spec("tqdm"):
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, unit=unit, leave=False)
        return
    start = shown = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= LOG_EVERY_SECONDS:
            shown = now
            print(_line(label, count, total, unit, now - start), file=sys.stderr, flush=True)
    print(_line(label, count, total, unit, time.monotonic() - start), file=sys.stderr, flush=True)


def _line(label: str, count: int, total: int | None, unit: str, elapsed: float) -> str:
    rate = count / max(elapsed, 1e-9)
    left = f", {(total - count) / max(rate, 1e-9):.0f} s left" if total and count < total else ""
    return f"{label}: {count}{f'/{total}' if total else ''} {unit}, {rate:.1f} {unit}/s{left}"
