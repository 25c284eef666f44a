"""`hubferry serve` beside nginx: what giving a file out costs the server."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from .. import process
from ..bench import Bench, Sample
from ..data import Repository
from ..peers import CURL
from ..process import Command
from ..result import Budget, Result, Samples, number, verdict
from ..servers import Hub, Server
from ..settings import MIB
from .single import size_text


def serve(bench: Bench) -> Result:
    size = bench.settings["single"]
    repository = bench.one_file(size)
    servers = {"hubferry serve": (bench.hub, bench.hub.url), "nginx (sendfile)": (bench.nginx, bench.face("plain").url)}
    samples = Samples(bench.interleave({who: (lambda who=who: get(bench, who, *servers[who], repository)) for who in servers}, 2 * bench.settings["repeats"]))
    many, each = bench.settings["readers"]
    crowded = bench.one_file(each, hub="crowded")
    peak = crowd(bench, bench.restarted("crowded"), crowded, many)
    lines = [
        [who, number(samples.wall(who)), number(samples.cpu(who)), number(samples.wall("hubferry serve") / samples.wall(who)), verdict(samples.of(who))]
        for who in samples.names
    ]
    budgets = [Budget("rss", f"peak RSS of the server in MiB with {many} downloads of {size_text(each)} at once", peak / MIB, 64)]
    setting = f"curl fetches {size_text(size)} into /dev/null; the processor time is the server's. Every other row takes its large files from nginx."
    return Result(setting, ["", "wall s", "server CPU s", "hubferry ÷ it", "result"], lines, budgets, samples.all)


def to_nothing(url: str, repository: Repository) -> Command:
    argv, env = CURL.program()
    return Command([*argv, "-sSfL", "-o", "/dev/null", "-w", "%{size_download}", f"{url}/{repository.name}/resolve/main/{repository.only}"], env)


def get(bench: Bench, who: str, server: Server, url: str, repository: Repository) -> Sample:
    before = process.cpu_seconds(server.pids())
    sample = bench.measure(who, to_nothing(url, repository), None, lambda: True)
    sample.cpu = process.cpu_seconds(server.pids()) - before
    sample.right = sample.note == str(repository.size)
    return sample


def crowd(bench: Bench, hub: Hub, repository: Repository, many: int) -> int:
    """The most memory a hub held during many downloads at once."""
    command = to_nothing(hub.url, repository)

    def one(number_of: int) -> int:
        return process.run(command, bench.home / f"crowd-{number_of}", 600).exit

    begun = time.perf_counter()
    with ThreadPoolExecutor(many) as pool:
        failed = [code for code in pool.map(one, range(many)) if code]
    if failed:
        raise RuntimeError(f"{len(failed)} of {many} downloads failed")
    print(f"    {many} downloads at once: {time.perf_counter() - begun:.1f} s", flush=True)
    return process.peak_memory(hub.child.pid)
