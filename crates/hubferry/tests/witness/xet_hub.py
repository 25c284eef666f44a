"""A hub with Xet for the tests: stands in front of `hubferry serve`, which has none, and in front of `local_cas_server`, the store.

    xet_hub.py HUB_URL STORE_URL READY_FILE

What it adds to the hub: Xet tokens, `xetHash` in listings, `X-Xet-Hash` on redirects, and pointers to files that lie in the store.
What it adds to the store: it takes only the tokens that it gave out, learns which SHA-256 belongs to which Xet hash from the shards
that pass, and plays faults. Faults are set with `POST /double/faults`, requests so far are read with `GET /double/seen`.
"""

import http.client
import json
import os
import struct
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HUB, STORE, READY = sys.argv[1:]
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade", "date", "server"}
# Paths of the store that carry file bytes to readers. They are signed in themselves: no token goes there.
DATA = ("/v1/fetch_term", "/v1/get_xorb", "/get_xorb", "/fetch_term")

lock = threading.Lock()
seen = []
hashes = {}  # SHA-256 of a file: its Xet hash and size
tokens = {}  # token of the store: when it ends
faults = {}


def fault(name):
    """Whether a fault is to be played now: `true` always, a number that many times."""
    with lock:
        value = faults.get(name)
        if value is True or not value:
            return bool(value)
        faults[name] = value - 1
        return True


def digest(raw):
    """A hash as Xet writes it: four numbers, each with its lowest byte first."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def learn(shard):
    """Reads the files of a shard: 48-byte records; a file has terms, maybe their verification, maybe its SHA-256."""
    at = 48
    while True:
        name, flags, terms = shard[at : at + 32], *struct.unpack("<II", shard[at + 32 : at + 40])
        at += 48
        if name == b"\xff" * 32:
            return
        size = sum(struct.unpack("<I", shard[at + 48 * n + 36 : at + 48 * n + 40])[0] for n in range(terms))
        at += 48 * terms * (2 if flags & (1 << 31) else 1)
        if flags & (1 << 30):
            with lock:
                hashes[digest(shard[at : at + 32])] = (digest(name), size)
            at += 48


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, where):
        with lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append({"at": where, "method": self.command, "path": self.path, "headers": headers})

    def body(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            whole = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def ask(self, base, body, headers=None):
        place = urlsplit(base)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=120)
        sent = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        if body or self.command in ("POST", "PUT"):
            sent["content-length"] = str(len(body))
        connection.request(self.command, self.path, body, {**sent, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def answer(self, status, headers, body):
        self.send_response(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("content-length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, value, status=200, headers=()):
        self.answer(status, [("content-type", "application/json"), *headers], json.dumps(value).encode())

    def run(self):
        try:
            self.handle_one()
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = run


class Hub(Handler):
    def handle_one(self):
        body = self.body()
        if self.path == "/double/seen":
            with lock:
                return self.json({"seen": seen, "hashes": hashes})
        if self.path == "/double/faults":
            with lock:
                faults.clear()
                faults.update(json.loads(body))
            return self.json({})
        self.note("hub")
        parts = urlsplit(self.path).path.strip("/").split("/")
        if any(part in ("xet-read-token", "xet-write-token") for part in parts):
            return self.token("write" if "xet-write-token" in parts else "read")
        if self.command == "POST" and parts[0] == "api" and "commit" in parts:
            self.bring(body)
        status, headers, answer = self.ask(HUB, body, {"host": self.headers["host"]})
        if parts[0] == "api" and "tree" in parts and status == 200 and not fault("unlisted"):
            listed = json.loads(answer)
            for item in listed:
                known = hashes.get((item.get("lfs") or {}).get("oid"))
                if known:
                    item["xetHash"] = known[0]
            answer = json.dumps(listed).encode()
        linked = dict((name.lower(), value.strip('"')) for name, value in headers).get("x-linked-etag")
        if linked in hashes and status in (302, 307):
            repo = "/".join(parts[: parts.index("resolve")])
            repo = repo if repo.startswith(("datasets/", "spaces/")) else f"models/{repo}"
            route = f"http://{self.headers['host']}/api/{repo}/xet-read-token/{parts[parts.index('resolve') + 1]}"
            headers += [("X-Xet-Hash", hashes[linked][0]), ("Link", f'<{route}>; rel="xet-auth"')]
        self.answer(status, headers, answer)

    def token(self, right):
        who, _, _ = self.ask_who()
        if fault("no_token"):
            return self.json({"error": "no Xet here"}, 404)
        if right == "write" and who != 200:
            return self.json({"error": "sign in"}, 401)
        until = int(time.time()) + int(faults.get("life", 3600))
        with lock:
            name = f"cas-{right}-{len(tokens)}"
            tokens[name] = until
        store = faults.get("store", STORE_URL)
        headers = [("X-Xet-Access-Token", name), ("X-Xet-Token-Expiration", str(until)), ("X-Xet-Cas-Url", store)]
        self.json({"accessToken": name, "exp": until, "casUrl": store}, 200, headers)

    def ask_who(self):
        command, path = self.command, self.path
        self.command, self.path = "GET", "/api/whoami-v2"
        try:
            return self.ask(HUB, b"")
        finally:
            self.command, self.path = command, path

    def bring(self, body):
        """Files that lie in the store only are brought to the hub behind, as the real hub keeps one for both."""
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        parts = urlsplit(self.path).path.strip("/").split("/")
        kind, repo = parts[1], "/".join(parts[2 : parts.index("commit")])
        git = f"{HUB}/{'' if kind == 'models' else kind + '/'}{repo}.git/info/lfs/objects/batch"
        for value in (line["value"] for line in lines if line["key"] == "lfsFile"):
            if value["oid"] not in hashes:
                continue
            name, size = hashes[value["oid"]]
            assert size == value["size"], "the pointer and the store disagree about a size"
            batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": value["oid"], "size": size}], "hash_algo": "sha256"}
            headers = {"authorization": self.headers.get("authorization", ""), "content-type": "application/vnd.git-lfs+json"}
            asked = urllib.request.Request(git, json.dumps(batch).encode(), {**headers, "accept": headers["content-type"]})
            actions = json.load(urllib.request.urlopen(asked))["objects"][0].get("actions")
            if actions:
                content = urllib.request.urlopen(f"{STORE}/simulation/files/{name}/data").read()
                upload = actions["upload"]
                urllib.request.urlopen(urllib.request.Request(upload["href"], content, upload.get("header", {}), method="PUT")).read()


class Store(Handler):
    def handle_one(self):
        self.note("store")
        if fault("dead"):
            self.close_connection = True
            self.connection.close()
            return
        if fault("silent"):
            time.sleep(120)
        path = urlsplit(self.path).path
        data = self.command == "GET" and path.startswith(DATA)
        body = self.body()
        signed = data or "xorb-uploads" in path
        name = self.headers.get("authorization", "").removeprefix("Bearer ")
        if not signed and tokens.get(name, 0) <= time.time():
            return self.json({"error": "no token, or one that has ended"}, 401)
        if fault("busy"):
            return self.json({"error": "busy"}, 503)
        status, headers, answer = self.ask(STORE, body, {"host": f"127.0.0.1:{self.server.server_port}"})
        if status == 200 and self.command == "POST" and path in ("/v1/shards", "/v2/shards"):
            learn(body)
        if "/reconstructions/" in path and status == 200 and fault("lie"):
            told = json.loads(answer)
            for term in told["terms"]:
                term["unpacked_length"] += 1000
            answer = json.dumps(told).encode()
        if not data:
            return self.answer(status, headers, answer.replace(STORE.encode(), STORE_URL.encode()))
        if len(answer) > 1000 and fault("flip"):
            answer = answer[: len(answer) // 2] + bytes([answer[len(answer) // 2] ^ 1]) + answer[len(answer) // 2 + 1 :]
        if len(answer) > 1000 and (fault("stall") or fault("cut")):
            self.send_response(status)
            for key, value in headers:
                if key.lower() not in HOP:
                    self.send_header(key, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2])
            self.wfile.flush()
            time.sleep(120 if "stall" in faults else 0)
            self.close_connection = True
            return
        self.answer(status, headers, answer)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


hub, store = Server(("127.0.0.1", 0), Hub), Server(("127.0.0.1", 0), Store)
STORE_URL = f"http://127.0.0.1:{store.server_port}"
threading.Thread(target=store.serve_forever, daemon=True).start()
with open(READY + ".new", "w") as ready:
    json.dump({"hub": f"http://127.0.0.1:{hub.server_port}", "store": STORE_URL}, ready)
os.rename(READY + ".new", READY)
hub.serve_forever()
