"""Servers that lie or fall silent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ..bench import Bench, Sample
from ..data import Repository, holds
from ..peers import ARIA2, ARIA2_CHECKED, CURL, HF, HF_XET, HUBFERRY, RCLONE, Peer
from ..result import Budget, Result, number
from ..settings import MB
from .single import size_text


def flipped(bench: Bench) -> Result:
    size = bench.settings["flipped"]
    repository, samples, lines = bench.one_file(size), [], []
    ARIA2_CHECKED.sha256 = repository.sha256[repository.only]
    for peer in (HUBFERRY, HF, HF_XET, RCLONE, ARIA2, ARIA2_CHECKED, CURL):
        shaper = bench.shaper(flip={"at": size // 2 + 7, "times": 1}, total=200 * MB)
        sample = bench.fetch(peer, repository, shaper.url, shaper.log)
        samples.append(sample)
        outcome = what_became(sample)
        print(f"    {peer.name}: {outcome}", flush=True)
        lines.append([peer.name, outcome, str(sample.exit), number(sample.bytes / size), number(sample.wall)])
    mine = samples[0]
    budgets = [
        Budget("healed", "files not healed", 0 if mine.right and mine.exit == 0 else 1, 0),
        Budget("bytes", "bytes on the wire ÷ size", mine.bytes / size, 2.01),
    ]
    setting = (
        f"{size_text(size)}; one byte in the middle is inverted the first time it passes. `aria2c --checksum` is told the right hash by hand; "
        "the other peers have none to compare with, or do not use the one that the hub publishes."
    )
    return Result(setting, ["", "outcome", "exit", "bytes ÷ size", "wall s"], lines, budgets, samples)


def what_became(sample: Sample) -> str:
    if sample.right:
        return "healed" if sample.exit == 0 else "right bytes, but reported as failed"
    return "**wrong bytes kept, reported as success**" if sample.exit == 0 else "refused"


def stalled(bench: Bench) -> Result:
    size, patience = bench.settings["stalled"], bench.settings["patience"]
    repository = bench.one_file(size)
    peers = (HUBFERRY, HF, HF_XET, RCLONE, ARIA2, CURL)
    cases = [(peer, times) for times in (1, -1) for peer in peers]
    # They only wait, so they wait together.
    for place in range(len(cases)):
        bench.fresh(f"stall-{place}")
    with ThreadPoolExecutor(len(cases)) as pool:
        samples = list(pool.map(lambda i: wait(bench, i, *cases[i], repository, patience), range(len(cases))))
    once, always = samples[: len(peers)], samples[len(peers) :]
    lines = []
    for peer, first, second in zip(peers, once, always):
        lines.append([peer.name, outcome_of(first, patience), outcome_of(second, patience)])
        print(f"    {lines[-1]}", flush=True)
    budgets = [
        Budget("recovered", "seconds until the file is there after one silence", once[0].wall if once[0].right else float("inf"), 40),
    ]
    setting = (
        f"{size_text(size)}; the connection stays open but nothing more comes after a quarter of the file. Once: other requests are answered well. "
        f"Always: nobody ever gets past that byte. Default settings, all peers at the same time, ended after {patience} s."
    )
    return Result(setting, ["", "silent once", "always silent"], lines, budgets, samples)


def wait(bench: Bench, number_of: int, peer: Peer, times: int, repository: Repository, patience: float) -> Sample:
    shaper = bench.shaper(stall={"at": repository.size // 4, "times": times})
    into, home = bench.work / f"stall-{number_of}", bench.home / f"stall-{number_of}"
    command = peer.one(shaper.url, repository.name, repository.only, into)
    return bench.measure(peer.name, command, shaper.log, lambda: holds(into, repository.sha256), limit=patience, home=home)


def outcome_of(sample: Sample, patience: float) -> str:
    if sample.timed_out:
        return f"**not over after {patience} s**"
    if sample.right and sample.exit == 0:
        return f"done after {number(sample.wall)} s"
    return f"gives up after {number(sample.wall)} s (exit {sample.exit})"
