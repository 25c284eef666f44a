"""What is measured with: files of random bytes, published on a hub once and then fetched again and again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from .settings import MIB

BLOCK = 16 * MIB


@dataclass
class Repository:
    """A published folder: names and digests of its files."""

    name: str
    folder: Path
    size: int
    sha256: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return list(self.sha256)

    @property
    def only(self) -> str:
        """The name of its one file."""
        (name,) = self.sha256
        return name


def write_large(path: Path, size: int) -> str:
    """A file in which no two megabytes are equal, and its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise, digest = os.urandom(min(size, BLOCK)), hashlib.sha256()
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            at = start % BLOCK
            piece = (start.to_bytes(8, "big") + noise[at + 8 : at + MIB])[: size - start]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def write_small(folder: Path, count: int, size: int) -> dict[str, str]:
    """Small text files, a thousand to a folder."""
    digests = {}
    for number in range(count):
        name = f"part-{number // 1000:03}/file-{number:06}.txt"
        content = (f"file {number}\n" * size)[:size].encode()
        path = folder / name
        if number % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def sha256_of(path: Path) -> str | None:
    """The digest of a file; `None` when there is none."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(MIB):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()


def holds(folder: Path, wanted: dict[str, str]) -> bool:
    """Whether a folder has these files with these bytes."""
    return all(sha256_of(folder / name) == digest for name, digest in wanted.items())
