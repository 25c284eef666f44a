"""What every row measures with: servers that start when they are first needed, published files, and runs that are checked."""

from __future__ import annotations

import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Iterable

from . import data, process
from .data import Repository
from .peers import HUBFERRY, Peer
from .process import Command
from .servers import Face, Hub, Log, Nginx, Shaper, Traffic
from .settings import PLACE, Settings

#: A peer that takes longer than this is run once only.
SLOW = 15.0


@dataclass
class Sample:
    """One run of one peer."""

    who: str
    wall: float
    cpu: float
    rss: int
    written: int
    exit: int
    requests: int
    bytes: int
    #: Whether what it left has the right SHA-256.
    right: bool
    timed_out: bool = False
    note: str = ""

    def json(self) -> dict:
        return asdict(self)


class Bench:
    """One run of the benchmark."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.work = settings.work
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        # On a disk, so that whatever a program writes beside its result is seen as written.
        self.home = PLACE / "home"
        self.random = random.Random(2)
        self._hubs: dict[str, Hub] = {}
        self._nginx: Nginx | None = None
        self._shapers: list[Shaper] = []
        self._published: dict[str, Repository] = {}

    def close(self) -> None:
        self.end_row()
        for server in [self._nginx, *self._hubs.values()]:
            if server:
                server.stop()
        for folder in (self.work, self.home, self.settings.disk):
            shutil.rmtree(folder, ignore_errors=True)

    def end_row(self) -> None:
        for shaper in self._shapers:
            shaper.stop()
        self._shapers = []

    # Servers

    @property
    def hub(self) -> Hub:
        return self.another_hub("hub")

    def another_hub(self, name: str) -> Hub:
        if name not in self._hubs:
            self._hubs[name] = Hub(self.work / name, self.work / f"{name}.txt")
        return self._hubs[name]

    def restarted(self, name: str) -> Hub:
        """The same hub in a new process, which remembers nothing of what was published."""
        self._hubs.pop(name).stop()
        return self.another_hub(name)

    @property
    def nginx(self) -> Nginx:
        if not self._nginx:
            self._nginx = Nginx(self.hub, self.work / "nginx")
        return self._nginx

    def face(self, name: str) -> Face:
        return self.nginx.faces[name]

    def shaper(self, **options) -> Shaper:
        """Stopped at the end of the row."""
        self._shapers.append(Shaper(self.hub.port, self.work / "shaper", **options))
        return self._shapers[-1]

    # What is published

    def one_file(self, size: int, hub: str = "hub") -> Repository:
        """A repository with one large file."""

        def write(folder: Path) -> dict[str, str]:
            return {"model.safetensors": data.write_large(folder / "model.safetensors", size)}

        return self._publish(f"bench/one-{size}", write, size, hub)

    def large_files(self, count: int, size: int) -> Repository:
        def write(folder: Path) -> dict[str, str]:
            names = [f"model-{number:05}.safetensors" for number in range(count)]
            return {name: data.write_large(folder / name, size) for name in names}

        return self._publish(f"bench/large-{count}-{size}", write, count * size)

    def small_files(self, count: int, size: int) -> Repository:
        return self._publish(f"bench/small-{count}", lambda folder: data.write_small(folder, count, size), count * size)

    def _publish(self, name: str, write: Callable[[Path], dict[str, str]], size: int, hub: str = "hub") -> Repository:
        key = f"{hub}/{name}"
        if key not in self._published:
            folder = self.work / "published" / key.replace("/", "-")
            repository = Repository(name, folder, size, write(folder))
            cost = process.run(HUBFERRY.publish(self.another_hub(hub).url, folder, name), self.home, 3600)
            if cost.exit != 0:
                raise RuntimeError(f"publishing {name} failed: {cost.tail}")
            self._published[key] = repository
        return self._published[key]

    # Runs

    def fresh(self, name: str = "into", on: Path | None = None) -> Path:
        """An empty folder."""
        folder = (on or self.work) / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def measure(
        self, who: str, command: Command, log: Log | None, right: Callable[[], bool], limit: float = 900, home: Path | None = None, kill_after: float | None = None
    ) -> Sample:
        """Runs a command as `who`. Without `home` it starts with an empty one."""
        if home is None:
            home = self.home / "once"
            shutil.rmtree(home, ignore_errors=True)
        mark = log.mark() if log else 0
        cost = process.run(command, home, limit, kill_after)
        traffic = log.since(mark) if log else Traffic()
        return Sample(who, cost.wall, cost.cpu, cost.rss, cost.written, cost.exit, traffic.requests, traffic.bytes, right(), cost.timed_out, cost.tail)

    def fetch(self, peer: Peer, repository: Repository, url: str, log: Log, on: Path | None = None, limit: float = 900) -> Sample:
        """One file into an empty folder."""
        name, into = repository.only, self.fresh(on=on)
        command = peer.one(url, repository.name, name, into)
        sample = self.measure(peer.name, command, log, lambda: data.holds(into, repository.sha256), limit)
        shutil.rmtree(into)
        return sample

    def interleave(self, jobs: dict[str, Callable[[], Sample]], repeats: int | None = None) -> list[Sample]:
        """A B C A B C …: whatever the machine does meanwhile meets all of them alike. Slow ones run once."""
        samples: list[Sample] = []
        for turn in range(repeats or self.settings["repeats"]):
            for name, job in jobs.items():
                if turn and any(s.who == name and s.wall > SLOW for s in samples):
                    continue
                samples.append(job())
                failed = "" if samples[-1].right and samples[-1].exit == 0 else f"  exit {samples[-1].exit}: {samples[-1].note[-200:]}"
                print(f"    {name}: {samples[-1].wall:.2f} s{failed}", flush=True)
        return samples


def jobs_for(peers: Iterable[Peer], job: Callable[[Peer], Sample]) -> dict[str, Callable[[], Sample]]:
    return {peer.name: (lambda peer=peer: job(peer)) for peer in peers}
