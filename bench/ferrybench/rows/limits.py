"""One file from a server that gives each connection little."""

from __future__ import annotations

from ..bench import Bench, jobs_for
from ..peers import ARIA2, CURL, HF, HUBFERRY, RCLONE
from ..result import Budget, Result, Samples
from .single import size_text


def rated(bench: Bench) -> Result:
    size = bench.settings["rated"]
    repository, face = bench.one_file(size), bench.face("rated")
    jobs = jobs_for((HUBFERRY, ARIA2, RCLONE, HF, CURL), lambda peer: bench.fetch(peer, repository, face.url, face.log))
    samples = Samples(bench.interleave(jobs))
    columns, lines = samples.table(size)
    speed = samples.wall(ARIA2.name) / samples.wall(HUBFERRY.name)
    budgets = [Budget("speed-aria2", "speed ÷ aria2c -x16", speed, 0.95, at_most=False)]
    return Result(f"{size_text(size)}, the kernel sends at most 10 MB/s on each connection (SO_MAX_PACING_RATE), however many requests it carries.", columns, lines, budgets, samples.all)
