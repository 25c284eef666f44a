"""The servers of a run: the hub, the neutral server before it, and the proxy for moods and faults."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import process
from .settings import BINARY, PEERS

TOKEN = "bench-token"
#: Of Linux; Python has no name for it.
SO_MAX_PACING_RATE = 47
DEBIAN = PEERS / "debian" / "root"


def debian_tool(path: str) -> tuple[list[str], dict[str, str]]:
    """An unpacked Debian program, and what it needs to find its libraries."""
    libraries = [str(folder) for folder in DEBIAN.glob("usr/lib/*-linux-gnu")]
    return [str(DEBIAN / path)], {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}


@dataclass
class Traffic:
    """What passed a server: requests, and bytes of bodies sent."""

    requests: int = 0
    bytes: int = 0
    targets: tuple[str, ...] = ()


class Log:
    """An access log that can be read from where it was left. A line is: method status body-bytes target."""

    def __init__(self, path: Path):
        self.path = path
        path.touch()

    def mark(self) -> int:
        return self.path.stat().st_size

    def since(self, mark: int) -> Traffic:
        """Waits until it is quiet: a server notes an answer when it ends, also when the client is gone already."""
        size, quiet = -1, 0
        while quiet < 3:
            time.sleep(0.05)
            quiet = quiet + 1 if self.mark() == size else 0
            size = self.mark()
        with open(self.path, encoding="utf-8", errors="replace") as log:
            log.seek(mark)
            lines = [line.split(" ", 3) for line in log.read().splitlines()]
        return Traffic(len(lines), sum(int(line[2]) for line in lines), tuple(f"{line[0]} {line[1]} {line[3]}" for line in lines))


class Server:
    """A process that serves until it is stopped."""

    def __init__(self, argv: list[str], env: dict[str, str], says: Path, stdout=None, sockets: tuple[int, ...] = ()):
        with open(says, "ab") as out:
            self.child = subprocess.Popen(
                argv,
                env={"PATH": os.environ.get("PATH", ""), **env},
                stdin=subprocess.DEVNULL,
                stdout=stdout or out,
                stderr=out,
                start_new_session=True,
                pass_fds=sockets,
            )
        self.says = says

    def wait_for(self, ready) -> None:
        end = time.monotonic() + 20
        while not ready():
            if self.child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"a server did not start: {self.says.read_text()[-2000:]}")
            time.sleep(0.02)

    def pids(self) -> list[int]:
        return [self.child.pid, *process.children(self.child.pid)]

    def stop(self) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Hub(Server):
    """`hubferry serve`."""

    def __init__(self, data: Path, says: Path):
        ready = says.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        argv = [str(BINARY), "serve", "--data", str(data), "--ready-file", str(ready), "--user", f"bench:{TOKEN}"]
        super().__init__(argv, {"HOME": str(says.parent)}, says)
        self.data = data
        self.wait_for(ready.exists)
        self.url = json.loads(ready.read_text())["hf"]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


FACE = """
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    access_log {log} bench;
    {pause}
    location / {{ proxy_pass http://hub; }}
    location @hub {{ auth_request off; proxy_pass http://hub; }}
    # Large objects as a content network would give them out: from the file, past the hub.
    location ~ "^/-/objects/(?<oid>(?<ab>[0-9a-f][0-9a-f])(?<cd>[0-9a-f][0-9a-f])[0-9a-f]+)$" {{
      root {data}/blobs;
      try_files /$ab/$cd/$oid @hub;
      add_header X-Repo-Commit $arg_commit;
      add_header X-Linked-Etag '"$oid"';
      add_header X-Linked-Size $arg_size;
    }}
  }}
"""
PAUSE = """auth_request /-pause;
    location = /-pause {{ internal; access_log off; echo_sleep {seconds}; echo_status 200; echo ok; }}"""
NGINX = """
daemon off;
{user}
worker_processes auto;
worker_rlimit_nofile 8192;
pid {place}/nginx.pid;
load_module {module};
events {{ worker_connections 4096; }}
http {{
  log_format bench '$request_method $status $body_bytes_sent $request_uri';
  default_type application/octet-stream;
  sendfile on; tcp_nopush on; tcp_nodelay on; etag on;
  keepalive_requests 1000000;
  client_max_body_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3; uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
  upstream hub {{ server 127.0.0.1:{hub}; keepalive 64; }}
  {faces}
}}
"""


@dataclass(frozen=True)
class Face:
    """One port of the neutral server."""

    url: str
    log: Log


class Nginx(Server):
    """The neutral server: the hub's answers through a proxy, its large objects straight from the files."""

    #: Name → (bytes per second of each connection, pause before each answer in seconds).
    FACES = {"plain": (0, 0.0), "rated": (10_000_000, 0.0), "paused": (0, 0.05)}

    def __init__(self, hub: Hub, place: Path):
        place.mkdir(parents=True, exist_ok=True)
        self.faces: dict[str, Face] = {}
        blocks, sockets = [], []
        for name, (rate, pause) in self.FACES.items():
            sockets.append(paced_socket(rate))
            port = sockets[-1].getsockname()[1]
            log = Log(place / f"{name}.log")
            paused = PAUSE.format(seconds=pause) if pause else ""
            blocks.append(FACE.format(port=port, log=log.path, pause=paused, data=hub.data))
            self.faces[name] = Face(f"http://127.0.0.1:{port}", log)
        module = DEBIAN / "usr/lib/nginx/modules/ngx_http_echo_module.so"
        user = "user root;" if os.getuid() == 0 else ""
        conf = place / "nginx.conf"
        conf.write_text(NGINX.format(user=user, place=place, module=module, hub=hub.port, faces="".join(blocks)))
        argv, env = debian_tool("usr/sbin/nginx")
        says = place / "error.log"
        # nginx takes over listening sockets that it is told of in this variable, and with them how fast the kernel sends.
        numbers = tuple(listener.fileno() for listener in sockets)
        env["NGINX"] = "".join(f"{number};" for number in numbers)
        super().__init__([*argv, "-e", str(says), "-p", str(place), "-c", str(conf)], env, says, sockets=numbers)
        for listener in sockets:
            listener.close()
        self.wait_for((place / "nginx.pid").exists)


class Shaper(Server):
    """The proxy for moods and faults, before a server at `port`."""

    def __init__(self, port: int, place: Path, **options):
        place.mkdir(parents=True, exist_ok=True)
        self.log = Log(place / f"shaper-{time.monotonic_ns()}.log")
        options.update(upstream=["127.0.0.1", port], log=str(self.log.path))
        argv = [sys.executable, "-m", "ferrybench.shaper", json.dumps(options)]
        super().__init__(argv, {"PYTHONPATH": os.environ["PYTHONPATH"]}, place / "shaper.txt", stdout=subprocess.PIPE)
        line = self.child.stdout.readline()
        if not line.strip():
            raise RuntimeError(f"the shaper did not start: {self.says.read_text()[-2000:]}")
        self.url = f"http://127.0.0.1:{int(line)}"

    def stop(self) -> None:
        super().stop()
        self.child.stdout.close()


def paced_socket(rate: int) -> socket.socket:
    """Listens on a free port. Whatever it accepts sends at most `rate` bytes per second, from the first byte to the last: nginx's own
    limit starts anew with every request and gives a second's worth at once, which favours those who ask for many small ranges."""
    listener = socket.socket()
    if rate:
        listener.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    # nginx leaves inherited sockets as they are; when its workers race for one connection, the loser would wait in `accept` for the next
    # one, and whatever it serves with it.
    listener.setblocking(False)
    return listener
