"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from .settings import GIB, MB, MIB, ROOT


def describe(work: Path, disk: Path) -> dict[str, str]:
    return {
        "processor": f"{cpu()}, {os.cpu_count()} cores",
        "memory": f"{memory() / GIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "system": system(),
        "measured files on": file_system(work),
        "disk": f"{file_system(disk)}, {write_speed(disk)}",
    }


def cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def system() -> str:
    fields = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return fields.get("PRETTY_NAME", "unknown").strip('"')


def file_system(path: Path) -> str:
    """The kind of file system and the device below."""
    path.mkdir(parents=True, exist_ok=True)
    said = subprocess.run(["findmnt", "-no", "FSTYPE,SOURCE", "-T", str(path)], capture_output=True, text=True).stdout.split()
    if len(said) < 2:
        return "unknown"
    kind, source = said[0], said[1].split("[")[0]
    if not source.startswith("/dev/"):
        return f"{kind} (memory)" if kind == "tmpfs" else kind
    return f"{kind} on {source}"


def write_speed(folder: Path) -> str:
    """How fast a disk takes bytes for good."""
    path, block = folder / "speed", os.urandom(MIB)
    begun = time.perf_counter()
    with open(path, "wb") as file:
        for _ in range(256):
            file.write(block)
        os.fsync(file.fileno())
    speed = 256 * MIB / (time.perf_counter() - begun)
    path.unlink()
    return f"{speed / MB:.0f} MB/s written and synchronised"


def commit() -> str:
    """The commit that is measured, and whether there are changes on top."""
    said = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def load() -> float:
    return os.getloadavg()[0]
