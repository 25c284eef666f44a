"""How long it takes to start, and how large it is."""

from __future__ import annotations

from ..bench import Bench, jobs_for
from ..peers import ARIA2, CURL, HF, HUBFERRY, RCLONE, Peer
from ..process import Command
from ..result import Budget, Result, Samples, number
from ..settings import BINARY, MB, MIB


def start(bench: Bench) -> Result:
    def job(peer: Peer):
        argv, env = peer.program()
        return bench.measure(peer.name, Command([*argv, *peer.version_argument()], env), None, lambda: True)

    jobs = jobs_for((HUBFERRY, CURL, ARIA2, RCLONE, HF), job)
    samples = Samples([run() for _ in range(bench.settings["starts"]) for run in jobs.values()])
    lines = [[who, number(samples.wall(who) * 1000), number(samples.wall(HUBFERRY.name) / samples.wall(who))] for who in samples.names]
    size = BINARY.stat().st_size
    budgets = [
        Budget("version", "ms for `hubferry --version`", samples.wall(HUBFERRY.name) * 1000, 10),
        Budget("size", f"size of the release binary in MB ({size / MIB:.1f} MiB)", size / MB, 25),
    ]
    return Result("`--version` (hf: `version`), median.", ["", "ms", "hubferry ÷ it"], lines, budgets, samples.all)
