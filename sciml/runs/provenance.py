"""Where a run comes from: versions, code, machine."""

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = (
    "sciml-solvers", "torch", "lightning", "numpy", "scipy", "sympy", "h5py", "pydantic", "hydra-core",
    "scikit-learn", "deepxde", "pandapower",
)  # fmt: skip


def provenance(seed: int) -> dict[str, Any]:
    """Return what tells where a run was made, as far as it is known at its start."""
    commit, dirty = git_state(Path(__file__).parent)
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "git_commit": commit,
        "git_dirty": dirty,
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def gpu_name() -> str | None:
    """Return the name of the GPU; this starts CUDA, which must not happen before a fork."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that ended."""
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a folder and whether tracked files differ from it; None outside a repository."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def processor() -> str:
    """Return the model of the CPU and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = (
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        )
        model = next(names, model)
    return f"{model}, {cores} cores"


def _git(folder: Path, *arguments: str) -> str:
    # An installed wheel may lie inside somebody else's repository, which says nothing of this code.
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", __file__], cwd=folder, capture_output=True, timeout=10
    )
    tracked.check_returncode()
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
