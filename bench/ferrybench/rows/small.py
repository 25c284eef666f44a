"""Many small files from far away: what counts is how many requests are made, and how many at once."""

from __future__ import annotations

from ..bench import Bench, jobs_for
from ..data import holds
from ..peers import ARIA2, HF, HUBFERRY, RCLONE, Peer
from ..result import Budget, Result, Samples

SIZE = 2048


def small(bench: Bench) -> Result:
    count = bench.settings["small-files"]
    repository, face = bench.small_files(count, SIZE), bench.face("paused")

    def job(peer: Peer):
        into = bench.fresh()
        command = peer.many(face.url, repository.name, repository.files, into)
        return bench.measure(peer.name, command, face.log, lambda: holds(into, repository.sha256))

    samples = Samples(bench.interleave(jobs_for((HUBFERRY, ARIA2, RCLONE, HF), job)))
    columns, lines = samples.table(repository.size)
    budgets = [
        Budget("wall-aria2", "wall ÷ aria2c -j16", samples.wall(HUBFERRY.name) / samples.wall(ARIA2.name), 0.4),
        Budget("requests", "requests", samples.requests(HUBFERRY.name), count + 10),
    ]
    setting = (
        f"{count} files of 2 KiB; nginx waits 50 ms before each answer. aria2c and rclone are given the list of names for nothing; "
        "hubferry and hf have to ask for it."
    )
    return Result(setting, columns, lines, budgets, samples.all)
