"""Runs one program and says what it cost: wall time, processor time of its whole tree, peak memory, bytes written to disks."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_EVERY = 0.01


@dataclass
class Command:
    """What to start. The environment holds only what is named here and a path: no setting of this machine takes part."""

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def environment(self, home: Path) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8", "HOME": str(home), **self.env}


@dataclass
class Cost:
    """What a run took."""

    wall: float
    cpu: float
    #: Peak resident bytes of the started process.
    rss: int
    #: Bytes that it caused to be written to block devices.
    written: int
    #: Exit code; negative for a signal.
    exit: int
    #: Whether the time limit ended it.
    timed_out: bool
    #: The last it said.
    tail: str = ""


def run(command: Command, home: Path, limit: float, kill_after: float | None = None) -> Cost:
    """Runs to the end, or until `limit`, or kills it (as `kill -9` does) after `kill_after` seconds."""
    home.mkdir(parents=True, exist_ok=True)
    # Not on a disk, if possible: what a program prints is nothing that it stores.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryFile(dir=memory) as out:
        cost = follow(command, home, limit, kill_after, out)
        out.seek(0)
        cost.tail = out.read()[-600:].decode("utf-8", "replace").strip()
    return cost


def follow(command: Command, home: Path, limit: float, kill_after: float | None, out) -> Cost:
    begun = time.perf_counter()
    child = subprocess.Popen(
        command.argv, env=command.environment(home), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=home
    )
    watch = Watch(child.pid)
    killer = threading.Timer(limit if kill_after is None else kill_after, lambda: os.killpg(child.pid, signal.SIGKILL))
    killer.start()
    try:
        # Not reaped yet: what a dead process wrote can still be read, and its number is not given to another one.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise
    finally:
        wall = time.perf_counter() - begun
        killer.cancel()
        killer.join()
        watch.stop()
    written = written_bytes(child.pid)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = code = os.waitstatus_to_exitcode(status)
    sweep(child.pid)
    timed_out = kill_after is None and code == -signal.SIGKILL and wall >= limit
    return Cost(wall, usage.ru_utime + usage.ru_stime, watch.peak, written, code, timed_out)


def sweep(group: int) -> None:
    """Ends what a program left running."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Watch:
    """Follows the peak memory of a process. The kernel's own figure at the end would include what the starting process held."""

    def __init__(self, pid: int):
        self.peak = 0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._done.wait(SAMPLE_EVERY):
            self.peak = max(self.peak, peak_memory(self._pid))

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


def peak_memory(pid: int) -> int:
    """The most a running process ever held, in bytes; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def written_bytes(pid: int) -> int:
    try:
        fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return int(fields["write_bytes"])
    except (OSError, KeyError, ValueError):
        return 0


def cpu_seconds(pids: list[int]) -> float:
    """Processor time so far of running processes."""
    ticks = 0
    for pid in pids:
        # The name, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found
