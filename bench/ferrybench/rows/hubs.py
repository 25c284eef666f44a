"""Hub to hub: reading, checking and writing at once, without a disk in between."""

from __future__ import annotations

from ..bench import Bench, Sample
from ..data import holds
from ..peers import HF, HUBFERRY, python_of
from ..process import Command
from ..result import Budget, Result, Samples, median, number
from ..servers import TOKEN
from ..settings import KIB
from .single import size_text

DOWN, UP, BOTH = "hubferry: download alone", "hubferry: upload alone", "hubferry: hub to hub"
SCRIPT = "snapshot_download + upload_folder"
PYTHON = """
import os, sys
from huggingface_hub import HfApi
source, target, repo, name, folder = sys.argv[1:]
HfApi(endpoint=source).snapshot_download(repo, local_dir=folder, max_workers=16)
api = HfApi(endpoint=target, token=os.environ["HF_TOKEN"])
api.create_repo(name)
api.upload_folder(repo_id=name, folder_path=folder, ignore_patterns=[".cache/**"])
"""


def hubs(bench: Bench) -> Result:
    size = bench.settings["hubs"]
    count = 4
    repository, other = bench.large_files(count, size // count), bench.another_hub("other-hub")
    source, number_of = bench.hub, iter(range(10_000))

    def arrived(name: str) -> bool:
        """What the other hub gives out for it: not what some client thinks it sent."""
        into = bench.fresh("arrived")
        command = HUBFERRY.copy(other.url, f"hf:{name}", str(into))
        return bench.measure("check", command, None, lambda: holds(into, repository.sha256)).right

    def upload(who: str, origin: str) -> Sample:
        name = f"bench/copy-{next(number_of)}"
        config = bench.work / "two-hubs.toml"
        config.write_text(
            "".join(f'[remotes.{key}]\nprotocol = "hf"\nendpoint = "{hub.url}"\n' for key, hub in (("one", source), ("two", other)))
            + 'token_env = "OTHER_HUB_TOKEN"\n'
        )
        argv = [*HUBFERRY.program()[0], "--config", str(config), "copy", origin, f"two:{name}", "--visibility", "public"]
        return bench.measure(who, Command(argv, {"OTHER_HUB_TOKEN": TOKEN}), None, lambda: arrived(name))

    def download() -> Sample:
        into = bench.fresh()
        command = HUBFERRY.copy(source.url, f"hf:{repository.name}", str(into))
        return bench.measure(DOWN, command, None, lambda: holds(into, repository.sha256))

    def script() -> Sample:
        name, into = f"bench/copy-{next(number_of)}", bench.fresh()
        env = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        argv = [python_of(HF), "-c", PYTHON, source.url, other.url, repository.name, name, str(into)]
        return bench.measure(SCRIPT, Command(argv, env), None, lambda: arrived(name))

    jobs = {
        BOTH: lambda: upload(BOTH, f"one:{repository.name}"),
        DOWN: download,
        UP: lambda: upload(UP, str(repository.folder)),
        SCRIPT: script,
    }
    samples = Samples(bench.interleave(jobs))
    slower = max((DOWN, UP), key=samples.wall)
    columns, lines = table(samples)
    budgets = [
        Budget("wall-slower", f"wall ÷ the slower of its halves alone ({slower.split(': ')[1]})", samples.wall(BOTH) / samples.wall(slower), 1.1),
        Budget("wall-script", f"wall ÷ {SCRIPT}", samples.wall(BOTH) / samples.wall(SCRIPT), 0.5),
        Budget("written", "KiB written to disks by the client: its notes, no content", median(samples.of(BOTH), lambda s: s.written) / KIB, 64),
    ]
    setting = (
        f"{count} files, {size_text(size)} together, between two `hubferry serve` on this machine; clients and both hubs share its cores. "
        "What arrived is read back from the second hub and hashed."
    )
    return Result(setting, columns, lines, budgets, samples.all)


def table(samples: Samples) -> tuple[list[str], list[list[str]]]:
    columns, lines = samples.table(0, base=BOTH)
    keep = [i for i, column in enumerate(columns) if column not in ("requests", "bytes ÷ size")]
    columns = [columns[i].replace("hubferry ÷", "hub to hub ÷") for i in keep]
    lines = [[line[i] for i in keep] for line in lines]
    for line in lines:
        line.insert(-1, number(median(samples.of(line[0]), lambda s: s.written) / KIB))
    columns.insert(-1, "disk KiB")
    return columns, lines
