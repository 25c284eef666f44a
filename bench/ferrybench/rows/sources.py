"""How many connections, and to whom: a server that breaks down under too many, and several that hold the same file."""

from __future__ import annotations

import subprocess

from ..bench import Bench, Sample
from ..data import holds
from ..peers import HUBFERRY
from ..process import Command
from ..result import Budget, Result, Samples, number
from ..settings import BINARY, MB, MIB
from .single import size_text

ABOVE, TOTAL = 8, 80 * MB


def collapse(bench: Bench) -> Result:
    count, fixed = bench.settings["collapse-files"], bench.settings["collapse-fixed"]
    repository = bench.large_files(count, 8 * MIB if bench.settings.mode != "check" else MIB)
    shaper = bench.shaper(each=TOTAL / ABOVE, total=TOTAL, collapse=ABOVE)

    def job(who: str, *flags: str):
        into = bench.fresh()
        command = HUBFERRY.copy(shaper.url, f"hf:{repository.name}", str(into), *flags)
        return bench.measure(who, command, shaper.log, lambda: holds(into, repository.sha256))

    jobs = {"hubferry": lambda: job("hubferry")}
    for transfers in fixed:
        jobs[f"--transfers {transfers}"] = lambda n=transfers: job(f"--transfers {n}", "--transfers", str(n))
    samples = Samples(bench.interleave(jobs, min(2, bench.settings["repeats"])))
    best = min(samples.names[1:], key=samples.wall)
    columns, lines = samples.table(repository.size)
    keep = [0, 1, 2, 3, 7, 8, 9]
    budgets = [Budget("adaptive", f"speed ÷ the best fixed setting ({best})", samples.wall(best) / samples.wall("hubferry"), 0.9, at_most=False)]
    setting = (
        f"{count} files of {size_text(repository.size // count)}. Each connection gets {TOTAL // ABOVE // MB} MB/s, all together {TOTAL // MB} MB/s; with n > {ABOVE} bodies at once "
        f"all together get {TOTAL // MB} · {ABOVE} / n MB/s. Adaptive (the default) beside fixed numbers."
    )
    return Result(setting, [columns[i] for i in keep], [[line[i] for i in keep] for line in lines], budgets, samples.all)


def mirrors(bench: Bench) -> Result:
    said = subprocess.run([str(BINARY), "copy", "--help"], capture_output=True, text=True, check=False).stdout
    if "--also" not in said:
        return Result("", skipped="not there yet: `copy` has no `--also ADDRESS`")
    size = bench.settings["mirrored"]
    repository = bench.one_file(size)
    shapers = [bench.shaper(total=10 * MB) for _ in range(3)]
    config = bench.work / "mirrors.toml"
    config.write_text("".join(f'[remotes.m{i}]\nprotocol = "hf"\nendpoint = "{shaper.url}"\n' for i, shaper in enumerate(shapers)))

    def job(who: str, count: int) -> Sample:
        into = bench.fresh()
        also = [part for i in range(1, count) for part in ("--also", f"m{i}:{repository.name}")]
        argv = [str(BINARY), "--config", str(config), "copy", f"m0:{repository.name}", str(into), *also]
        marks = [shaper.log.mark() for shaper in shapers]
        sample = bench.measure(who, Command(argv), None, lambda: holds(into, repository.sha256))
        traffic = [shaper.log.since(mark) for shaper, mark in zip(shapers, marks)]
        sample.requests, sample.bytes = sum(t.requests for t in traffic), sum(t.bytes for t in traffic)
        return sample

    names = {"one source": 1, "two sources": 2, "three sources": 3}
    samples = Samples(bench.interleave({who: (lambda who=who, n=n: job(who, n)) for who, n in names.items()}, min(2, bench.settings["repeats"])))
    columns, lines = samples.table(size, base="three sources")
    keep = [0, 1, 2, 7, 8, 9]
    gain = samples.wall("one source") / samples.wall("three sources")
    budgets = [Budget("gain", "speed of three sources ÷ speed of one", gain, 2.7, at_most=False)]
    setting = f"{size_text(size)}; each source gives 10 MB/s in all. {number(size / (10 * MB))} s is the least for one."
    return Result(setting, [columns[i] for i in keep], [[line[i] for i in keep] for line in lines], budgets, samples.all)
