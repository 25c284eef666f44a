"""Large repositories with nothing to do: planning time and memory, and how they grow."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import urllib.request
from pathlib import Path

from ..bench import Bench, Sample
from ..data import Repository, holds
from ..peers import HF, HUBFERRY
from ..result import Budget, Result, Samples, number
from ..settings import MIB

SIZE = 32


def plans(bench: Bench) -> Result:
    samples: list[Sample] = []
    for count in bench.settings["trees"]:
        samples += of_tree(bench, count)
    found = Samples(samples)
    columns, lines = found.table(0)
    keep = [i for i, column in enumerate(columns) if not column.startswith(("hubferry", "bytes"))]
    columns, lines = [columns[i] for i in keep], [[line[i] for i in keep] for line in lines]
    return Result(
        "Files of 32 bytes in folders of a thousand, over loopback, all of them there already: the plan for an empty directory "
        "(`--dry-run`), and a copy that finds nothing to do. Requests are counted at nginx.",
        columns,
        lines,
        budgets(found, bench.settings["trees"]),
        samples,
    )


def of_tree(bench: Bench, count: int) -> list[Sample]:
    repository, face = bench.small_files(count, SIZE), bench.face("plain")
    home = bench.home / f"tree-{count}"
    into, empty = bench.fresh(f"tree-{count}"), bench.fresh("empty")
    copy = HUBFERRY.copy(face.url, f"hf:{repository.name}", str(into))
    # The files are there already, but nobody has looked at them yet: this first run hashes them.
    fill(repository, into)
    first = bench.measure(f"hubferry, {count}: first look", copy, face.log, lambda: True, home=home)
    jobs = {
        f"hubferry, {count}: plan": lambda who: bench.measure(
            who, HUBFERRY.copy(face.url, f"hf:{repository.name}", str(empty), "--dry-run"), face.log, lambda: not any(empty.iterdir())
        ),
        f"hubferry, {count}: nothing to do": lambda who: bench.measure(who, copy, face.log, lambda: holds(into, repository.sha256), home=home),
    }
    samples = [first, *bench.interleave({who: (lambda who=who, job=job: job(who)) for who, job in jobs.items()})]
    if count <= 10_000:
        samples += of_hf(bench, repository)
    shutil.rmtree(into)
    return samples


def of_hf(bench: Bench, repository: Repository) -> list[Sample]:
    """The same for hf, with the notes beside the files that its own download would have left: that alone would take minutes."""
    face, into = bench.face("plain"), bench.fresh("hf-tree")
    fill(repository, into)
    with urllib.request.urlopen(f"{face.url}/api/models/{repository.name}") as answer:
        commit = json.load(answer)["sha"]
    for name in repository.files:
        content = (into / name).read_bytes()
        etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        note = into / ".cache/huggingface/download" / f"{name}.metadata"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"{commit}\n{etag}\n{time.time() + 60}\n")
    who, command = f"hf, {len(repository.files)}: nothing to do", HF.many(face.url, repository.name, repository.files, into)
    samples = bench.interleave({who: lambda: bench.measure(who, command, face.log, lambda: holds(into, repository.sha256))})
    shutil.rmtree(into)
    return samples


def fill(repository: Repository, into: Path) -> None:
    """Hard links: the same bytes without a copy."""
    for name in repository.files:
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(repository.folder / name, target)


def budgets(found: Samples, counts: tuple[int, ...]) -> list[Budget]:
    idle = {count: f"hubferry, {count}: nothing to do" for count in counts}
    first, most = counts[0], counts[-1]
    # A thousand entries to a page, a question for the folder and one for the repository; the rest are few, whatever the size.
    pages = first / 1000
    listed = [
        Budget("no-op", f"seconds for nothing to do with {first} files", found.wall(idle[first]), 0.3),
        Budget("no-op-requests", f"requests for {first} files: listing pages and a few", found.requests(idle[first]), pages + 5),
        Budget("rss", f"peak RSS in MiB with {most} files", max(found.rss(who) for who in found.names if who.startswith(f"hubferry, {most}")) / MIB, 256),
    ]
    if most > first:
        growth = (found.wall(idle[most]) / found.wall(idle[first])) / (most / first)
        text = f"time per file with {most} files ÷ with {first} files ({number(most / first)}x the files)"
        listed.append(Budget("linear", text, growth, 1.2))
    return listed
