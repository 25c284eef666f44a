"""`kill -9` at random moments, each followed by the same command again."""

from __future__ import annotations

import shutil

from ..bench import Bench, Sample
from ..data import Repository, holds
from ..peers import ARIA2, CURL, HF, HF_XET, HUBFERRY, RCLONE, Peer
from ..result import Budget, Result, number
from ..servers import Shaper
from ..settings import MB
from .single import size_text

RATE = 64 * MB


def killed(bench: Bench) -> Result:
    size, kills = bench.settings["killed"], bench.settings["kills"]
    repository, samples, lines = bench.one_file(size), [], []
    budgets = []
    for peer in (HUBFERRY, HF, HF_XET, RCLONE, ARIA2, CURL):
        shaper = bench.shaper(total=RATE)
        runs = with_kills(bench, peer, repository, shaper, kills)
        samples += runs
        moved, died = sum(run.bytes for run in runs) / size, len(runs) - 1
        print(f"    {peer.name}: {moved:.3f}x after {died} kills", flush=True)
        end = runs[-1]
        lines.append([peer.name, str(died), number(moved), f"{moved - 1:.1%}", "right" if end.right and end.exit == 0 else f"**exit {end.exit}, {'right' if end.right else 'wrong'} bytes**"])
        if peer is HUBFERRY:
            budgets.append(Budget("bytes", f"bytes on the wire ÷ size after {died} kills", moved, 1 + 0.02 * max(died, 1)))
            budgets.append(Budget("right", "wrong or missing files", 0 if end.right and end.exit == 0 else 1, 0))
    setting = (
        f"{size_text(size)} at {RATE // MB} MB/s in all; up to {kills} kills at random moments, then a last run that may finish. Bytes are counted where they "
        "are sent. A peer that is done before its kills are used up was killed fewer times."
    )
    return Result(setting, ["", "kills", "bytes ÷ size", "sent twice", "result"], lines, budgets, samples)


def with_kills(bench: Bench, peer: Peer, repository: Repository, shaper: Shaper, kills: int) -> list[Sample]:
    name, into, home = repository.only, bench.fresh(), bench.home / "killed"
    shutil.rmtree(home, ignore_errors=True)
    command = peer.one(shaper.url, repository.name, name, into)
    arrives = repository.size / RATE
    # Long enough that a start of the slowest interpreter is over, short enough that the kills are used up.
    begin, share = startup(peer), arrives / (kills + 1)
    runs: list[Sample] = []
    for _ in range(kills):
        at = begin + bench.random.uniform(0.2, 1.6) * share
        runs.append(bench.measure(peer.name, command, shaper.log, lambda: holds(into, repository.sha256), home=home, kill_after=at))
        if runs[-1].exit == 0:
            return runs
    runs.append(bench.measure(peer.name, command, shaper.log, lambda: holds(into, repository.sha256), home=home))
    return runs


def startup(peer: Peer) -> float:
    """Seconds before the first byte is asked for."""
    return 1.0 if peer in (HF, HF_XET) else 0.1
