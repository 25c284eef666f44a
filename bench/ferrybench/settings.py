"""How large, how often, and where."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
#: Rates are spoken of in powers of ten, sizes in powers of two.
MB = 1_000_000

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target" / "bench"
PEERS = PLACE / "peers"
RESULTS = PLACE / "results"
BINARY = Path(os.environ.get("HUBFERRY_BENCH_BINARY", ROOT / "target" / "release" / "hubferry"))

MODES = ("check", "quick", "default", "full")
_BY_MODE = {
    "repeats": (1, 2, 3, 5),
    "single": (3 * MIB, 256 * MIB, GIB, GIB),
    "huge": (None, None, None, 4 * GIB),
    "disk": (3 * MIB, 256 * MIB, GIB, GIB),
    "rated": (3 * MIB, 64 * MIB, 256 * MIB, 512 * MIB),
    "small-files": (20, 300, 1000, 1000),
    "trees": ((100,), (10_000,), (10_000, 30_000), (10_000, 30_000, 100_000)),
    "hubs": (3 * MIB, 128 * MIB, 512 * MIB, GIB),
    "killed": (3 * MIB, 64 * MIB, 256 * MIB, 256 * MIB),
    "kills": (1, 3, 5, 20),
    "flipped": (3 * MIB, 64 * MIB, 256 * MIB, GIB),
    "stalled": (3 * MIB, 32 * MIB, 64 * MIB, 64 * MIB),
    "patience": (4, 60, 120, 480),
    "collapse-files": (8, 16, 48, 96),
    "collapse-fixed": ((8,), (4, 8, 16), (1, 2, 4, 8, 16, 32), (1, 2, 4, 6, 8, 10, 12, 16, 24, 32)),
    "mirrored": (3 * MIB, 64 * MIB, 256 * MIB, 512 * MIB),
    "starts": (3, 10, 20, 50),
    "readers": ((2, MIB), (16, 64 * MIB), (64, 256 * MIB), (64, 256 * MIB)),
}


class Settings:
    """One mode, and the folder that measured files go to."""

    def __init__(self, mode: str, work: str | None):
        self.mode = mode
        self._index = MODES.index(mode)
        self.work = Path(work) if work else default_work()
        self.disk = PLACE / "disk"

    def __getitem__(self, name: str):
        return _BY_MODE[name][self._index]

    @property
    def in_memory(self) -> bool:
        return str(self.work).startswith("/dev/shm")


def default_work() -> Path:
    """Memory, where there is enough: a disk's own mood is larger than most differences here. One row is about the disk."""
    memory = Path("/dev/shm")
    for left in memory.glob("hubferry-bench-*"):
        # Of a run that was killed.
        if not Path("/proc", left.name.rsplit("-", 1)[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    if memory.is_dir() and shutil.disk_usage(memory).free > 10 * GIB and available_memory() > 8 * GIB:
        return memory / f"hubferry-bench-{os.getpid()}"
    return PLACE / "work"


def available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    return 0
