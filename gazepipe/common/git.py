"""The commit that gazepipe runs from."""

import subprocess
from pathlib import Path


def commit() -> str:
    """The git commit of gazepipe's checkout, with "+ changes" where files differ from it; empty outside of one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        found = _git(here, "rev-parse", "HEAD")
        return f"{found} + changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else found
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
