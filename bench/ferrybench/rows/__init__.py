"""The rows, in the order they are run and printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ..bench import Bench
from ..result import Result


@dataclass(frozen=True)
class Row:
    """A question to the machine."""

    name: str
    title: str
    measure: Callable[[Bench], Result]


def every_row() -> list[Row]:
    from . import crash, faults, hubs, limits, plans, servers, single, small, sources, start

    return [
        Row("single", "One large file", single.memory),
        Row("cache", "One large file, into the Hugging Face cache", single.cache),
        Row("disk", "One large file, onto the disk, durably", single.disk),
        Row("huge", "Memory at 4 GiB", single.huge),
        Row("rated", "One file, 10 MB/s per connection", limits.rated),
        Row("small", "Many small files, 50 ms per request", small.small),
        Row("plans", "Nothing to do, in large repositories", plans.plans),
        Row("hubs", "Hub to hub", hubs.hubs),
        Row("killed", "Killed and run again", crash.killed),
        Row("flipped", "One flipped byte", faults.flipped),
        Row("stalled", "A server that falls silent", faults.stalled),
        Row("collapse", "A server that collapses above 8 connections", sources.collapse),
        Row("mirrors", "Three mirrors at 10 MB/s each", sources.mirrors),
        Row("serve", "hubferry serve as a server", servers.serve),
        Row("start", "Start and size", start.start),
    ]
