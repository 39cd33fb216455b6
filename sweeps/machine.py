"""What this machine has to offer, asked without torch or ray."""

import math
import os
import shutil
import subprocess
from pathlib import Path


def num_cpus() -> int:
    """Return the cores that this process may use: affinity and container limit included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _container_cpus()))


def _container_cpus(limit_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    try:
        quota, period = limit_file.read_text().split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return os.cpu_count() or 1


def num_gpus() -> int:
    """Return the NVIDIA GPUs that this process may use, `CUDA_VISIBLE_DEVICES` respected."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return 0
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    present = sum(line.startswith("GPU ") for line in listed.splitlines())
    return present if visible is None else min(present, len(visible.split(",")))
