"""One large file: where the time of a machine goes when the network costs nothing."""

from __future__ import annotations

import hashlib
import shutil
import time

from ..bench import Bench, Sample, jobs_for
from ..data import Repository, holds, sha256_of
from ..peers import ARIA2, CURL, HF, HF_XET, HUBFERRY, RCLONE
from ..process import Command
from ..result import Budget, Result, Samples
from ..settings import BINARY, GIB, KIB, MIB

HASH = "SHA-256 alone"


def size_text(size: int) -> str:
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / MIB:.3g} MiB"


def hashing(repository: Repository) -> Sample:
    """SHA-256 of the file's bytes in memory, by OpenSSL on one core."""
    path = repository.folder / repository.only
    with open(path, "rb") as file:
        file.read()
        file.seek(0)
        cpu, wall, digest = time.process_time(), time.perf_counter(), hashlib.sha256()
        while piece := file.read(256 * KIB):
            digest.update(piece)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    right = digest.hexdigest() == repository.sha256[repository.only]
    return Sample(HASH, wall, cpu, 0, 0, 0, 0, 0, right)


def budgets_of(samples: Samples) -> list[Budget]:
    """What one large file may cost, wherever it goes."""
    slower = max((CURL.name, HASH), key=samples.wall)
    mine = samples.wall(HUBFERRY.name)
    return [
        Budget("wall-hf", "wall ÷ hf download", mine / samples.wall(HF.name), 0.5),
        Budget("cpu-hf", "CPU ÷ hf download", samples.cpu(HUBFERRY.name) / samples.cpu(HF.name), 0.35),
        Budget("wall-curl", f"wall ÷ the slower of curl and SHA-256 alone ({slower})", mine / samples.wall(slower), 1.25),
        Budget("rss", "peak RSS in MiB", samples.rss(HUBFERRY.name) / MIB, 64),
    ]


def memory(bench: Bench) -> Result:
    size = bench.settings["single"]
    repository, face = bench.one_file(size), bench.face("plain")
    jobs = jobs_for((HUBFERRY, HF, HF_XET, RCLONE, ARIA2, CURL), lambda peer: bench.fetch(peer, repository, face.url, face.log))
    jobs[HASH] = lambda: hashing(repository)
    samples = Samples(bench.interleave(jobs))
    columns, lines = samples.table(size)
    where = "in memory (tmpfs)" if bench.settings.in_memory else "on the disk"
    setting = (
        f"{size_text(size)} over loopback, from the hub into a directory {where}. The API is answered by `hubferry serve` behind nginx, the object "
        "by nginx from the file, for everybody alike. hubferry verifies SHA-256 while it downloads; the other peers compare the size at most."
    )
    return Result(setting, columns, lines, budgets_of(samples), samples.all)


def cache(bench: Bench) -> Result:
    """The everyday download, as Python programs read it afterwards."""
    size = bench.settings["single"]
    repository, face = bench.one_file(size), bench.face("plain")
    name = repository.only

    def into_cache(peer):
        into = bench.fresh()
        argv = {HUBFERRY: [str(BINARY), "download", repository.name, name], HF: [*HF.program()[0], "download", repository.name, name]}[peer]
        env = {**peer.one(face.url, repository.name, name, into).env, "HF_HUB_CACHE": str(into)}
        whole = lambda: [sha256_of(at) for at in into.glob(f"models--*/snapshots/*/{name}")] == [repository.sha256[name]]
        sample = bench.measure(peer.name, Command(argv, env), face.log, whole)
        shutil.rmtree(into)
        return sample

    jobs = jobs_for((HUBFERRY, HF), into_cache)
    jobs |= jobs_for((RCLONE, CURL), lambda peer: bench.fetch(peer, repository, face.url, face.log))
    jobs[HASH] = lambda: hashing(repository)
    samples = Samples(bench.interleave(jobs))
    columns, lines = samples.table(size)
    setting = (
        f"{size_text(size)} as above, by `hubferry download` and `hf download` into an empty cache of huggingface_hub (blob, snapshot, ref). rclone and "
        "curl write the plain file, which is less. hubferry verifies SHA-256; the others compare the size at most."
    )
    return Result(setting, columns, lines, budgets_of(samples), samples.all)


def disk(bench: Bench) -> Result:
    size = bench.settings["disk"]
    repository, face = bench.one_file(size), bench.face("plain")

    def durable(peer):
        name, into = repository.only, bench.fresh(on=bench.settings.disk)
        command = peer.one(face.url, repository.name, name, into)
        # As hubferry does by itself: the bytes are on the disk when it says so.
        script = '"$@" && sync "$FILE" "$FOLDER"'
        argv = ["sh", "-c", script, "sh", *command.argv]
        durably = Command(argv, {**command.env, "FILE": str(into / name), "FOLDER": str(into)})
        return bench.measure(peer.name, command if peer is HUBFERRY else durably, face.log, lambda: holds(into, repository.sha256))

    samples = Samples(bench.interleave(jobs_for((HUBFERRY, HF, RCLONE, ARIA2, CURL), durable)))
    columns, lines = samples.table(size)
    keep = [i for i, column in enumerate(columns) if column != "RSS MiB"]
    setting = f"{size_text(size)} as above onto the disk; the peers are followed by `sync FILE FOLDER`, which hubferry does not need."
    return Result(setting, [columns[i] for i in keep], [[line[i] for i in keep] for line in lines], [], samples.all)


def huge(bench: Bench) -> Result:
    size = bench.settings["huge"]
    if not size:
        return Result("", skipped="only with --full")
    repository, face = bench.one_file(size), bench.face("plain")
    samples = Samples([bench.fetch(peer, repository, face.url, face.log) for peer in (HUBFERRY, HF, RCLONE, ARIA2)])
    columns, lines = samples.table(size)
    budget = Budget("rss", "peak RSS in MiB", samples.rss(HUBFERRY.name) / MIB, 64)
    setting = (
        f"{size_text(size)}, otherwise as the first row; once each. Only the memory is to be compared: file and copy together need more than a small "
        "machine has at hand, and a host that must find it first (0.2 to 0.4 GB/s were seen with dd) decides the times."
    )
    return Result(setting, columns, lines, [budget], samples.all)
