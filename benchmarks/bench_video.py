"""Frames per second of `gazepipe video`, all included: python benchmarks/bench_video.py CLIP BUNDLE [CORES]

Decoding, faces, gaze, drawing, H.264 and CSV of a clip, by each runtime in turn, on CORES cores (2); models are
loaded before the clock starts. On a machine that does other work, too, the CPU time is what to go by: below
1000 * CORES / 30 ms a frame there is room for 30 frames/s.
"""

import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

ROUNDS = 3


def main(clip: str, bundle: str, cores: int = 2) -> None:
    """Run the clip in interleaved rounds and print each report's times, then the medians."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from gazepipe.live.runtime import FILES
    from gazepipe.live.video import Options, run_video

    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        outputs = {"output": Path(folder) / "out.mp4", "csv": Path(folder) / "gaze.csv"}
        for _ in range(ROUNDS):
            for runtime, names in FILES.items():
                for int8, name in enumerate(names):
                    if not (Path(bundle) / name).exists():
                        continue
                    report = run_video(clip, Path(bundle), Options(runtime=runtime, int8=bool(int8), **outputs))
                    print(f"{name}: {' | '.join(report.splitlines()[:3])}", flush=True)
                    rates.setdefault(name, []).append(float(re.search(r"([\d.]+) frames/s", report)[1]))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, of which {cores} are used")
    for name, found in rates.items():
        print(f"{name}: {statistics.median(found):.1f} frames/s (rounds {', '.join(f'{rate:.1f}' for rate in found)})")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2)
