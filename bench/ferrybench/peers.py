"""The peers: what each is called with. Every one gets the settings that serve it best here; they are printed with the results."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .process import Command
from .servers import TOKEN, debian_tool
from .settings import BINARY, PEERS


class Peer:
    """A program that downloads."""

    name = ""
    #: The settings it gets, for the reader.
    settings = ""
    #: What `version` must show.
    expected = ""

    def version(self) -> str:
        argv, env = self.program()
        said = subprocess.run([*argv, *self.version_argument()], env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, check=False)
        found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr) if said.returncode == 0 else None
        if not found or not re.match(self.expected, found.group()):
            raise SystemExit(f"bench: {self.name} must have version {self.expected}, not {said.stdout[:80]!r}: run bench/peers")
        return found.group()

    def version_argument(self) -> list[str]:
        return ["--version"]

    def program(self) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def one(self, hub: str, repo: str, name: str, into: Path) -> Command:
        """Fetches one file to `into/name`."""
        raise NotImplementedError

    def many(self, hub: str, repo: str, names: list[str], into: Path) -> Command:
        """Fetches many small files to `into`."""
        raise NotImplementedError


class Hubferry(Peer):
    name = "hubferry"
    settings = "defaults"
    expected = r"\d"

    def program(self):
        return [str(BINARY)], {}

    def copy(self, hub: str, source: str, target: str, *flags: str) -> Command:
        return Command([str(BINARY), "copy", source, target, *flags], {"HF_ENDPOINT": hub})

    def one(self, hub, repo, name, into):
        return self.copy(hub, f"hf:{repo}/{name}", str(into))

    def many(self, hub, repo, names, into):
        return self.copy(hub, f"hf:{repo}", str(into))

    def publish(self, hub: str, folder: Path, repo: str) -> Command:
        command = self.copy(hub, str(folder), f"hf:{repo}", "--visibility", "public")
        command.env["HF_TOKEN"] = TOKEN
        return command


class HuggingFace(Peer):
    """The Hugging Face command line. `hubferry serve` speaks no Xet, so that with hf_xet installed it still uses HTTP here."""

    expected = r"2\.4\.0$"

    def __init__(self, name: str, home: str):
        self.name, self.home = name, home
        self.settings = "hf download --local-dir; many files: --max-workers 16"

    def program(self):
        return [str(PEERS / self.home / "bin" / "hf")], {}

    def version_argument(self):
        return ["version"]

    def download(self, hub: str, *arguments: str) -> Command:
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        return Command([*self.program()[0], "download", *arguments], {"HF_ENDPOINT": hub, **quiet})

    def one(self, hub, repo, name, into):
        return self.download(hub, repo, name, "--local-dir", str(into))

    def many(self, hub, repo, names, into):
        return self.download(hub, repo, "--local-dir", str(into), "--max-workers", "16")


class Rclone(Peer):
    name = "rclone"
    settings = "http remote, --multi-thread-streams 16, chunks of 8 MiB; many files: --files-from, --http-no-head, --transfers 16"
    expected = r"1\.75\."

    def program(self):
        return [str(PEERS / "rclone" / "bin" / "rclone")], {"RCLONE_CONFIG": "/dev/null"}

    def command(self, verb: str, hub: str, repo: str, *arguments: str) -> Command:
        argv, env = self.program()
        return Command([*argv, verb, "--http-url", f"{hub}/{repo}/resolve/main/", *arguments], env)

    def one(self, hub, repo, name, into):
        streams = ("--multi-thread-streams", "16", "--multi-thread-cutoff", "8M", "--multi-thread-chunk-size", "8M")
        return self.command("copyto", hub, repo, f":http:{name}", str(into / name), *streams)

    def many(self, hub, repo, names, into):
        listed = into.with_suffix(".names")
        listed.write_text("".join(f"{name}\n" for name in names))
        return self.command(
            "copy", hub, repo, ":http:", str(into), "--files-from-raw", str(listed), "--no-traverse", "--http-no-head", "--transfers", "16", "--checkers", "16"
        )


class Aria2(Peer):
    name = "aria2c"
    settings = "-x16 -s16 -k1M --file-allocation=none --auto-save-interval=1; many files: -i LIST -j16"
    expected = r"1\.(3[6-9]|[4-9]\d)"

    def __init__(self, checksum: bool = False):
        self.checksum = checksum
        if checksum:
            self.name = "aria2c --checksum"
        #: Set by rows that give it the hash by hand.
        self.sha256 = ""

    def program(self):
        return debian_tool("usr/bin/aria2c")

    def command(self, *arguments: str) -> Command:
        argv, env = self.program()
        return Command([*argv, "--no-conf", "--file-allocation=none", "--auto-save-interval=1", "--console-log-level=error", "--summary-interval=0", *arguments], env)

    def one(self, hub, repo, name, into):
        checksum = [f"--checksum=sha-256={self.sha256}"] if self.checksum else []
        return self.command("-x16", "-s16", "-k1M", *checksum, "-c", "-d", str(into), "-o", name, f"{hub}/{repo}/resolve/main/{name}")

    def many(self, hub, repo, names, into):
        listed = into.with_suffix(".list")
        listed.write_text("".join(f"{hub}/{repo}/resolve/main/{name}\n out={name}\n" for name in names))
        return self.command("-i", str(listed), "-j16", "-x16", "-d", str(into))


class Curl(Peer):
    name = "curl"
    settings = "one connection; -C - where it is run again"
    expected = r"\d"

    def program(self):
        unpacked = debian_tool("usr/bin/curl")
        return unpacked if Path(unpacked[0][0]).exists() else (["curl"], {})

    def one(self, hub, repo, name, into):
        argv, env = self.program()
        return Command([*argv, "-sSfL", "--create-dirs", "-C", "-", "-o", str(into / name), f"{hub}/{repo}/resolve/main/{name}"], env)


HUBFERRY = Hubferry()
HF = HuggingFace("hf", "hf")
HF_XET = HuggingFace("hf + hf_xet", "hf-xet")
RCLONE = Rclone()
ARIA2 = Aria2()
ARIA2_CHECKED = Aria2(checksum=True)
CURL = Curl()
ALL = (HUBFERRY, HF, HF_XET, RCLONE, ARIA2, CURL)


def python_of(peer: HuggingFace) -> str:
    return str(PEERS / peer.home / "bin" / "python")


def versions() -> dict[str, str]:
    """Every peer's version; ends the run when one is missing or another one."""
    found = {peer.name: peer.version() for peer in ALL}
    xet = subprocess.run([python_of(HF_XET), "-c", "import hf_xet, importlib.metadata as m; print(m.version('hf_xet'))"], capture_output=True, text=True)
    if xet.returncode != 0:
        raise SystemExit("bench: hf_xet is missing: run bench/peers")
    found[HF_XET.name] += f" + {xet.stdout.strip()}"
    argv, env = debian_tool("usr/sbin/nginx")
    said = subprocess.run([*argv, "-v"], env=env, capture_output=True, text=True).stderr
    if "nginx/" not in said:
        raise SystemExit("bench: nginx is missing: run bench/peers")
    found["nginx"] = said.strip().rsplit("/", 1)[1]
    return found
