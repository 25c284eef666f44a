"""What the ModelScope witnesses share: a sample tree, hashes, and a record of the requests a client really made."""

import hashlib
import os
import pathlib
import sys

import requests

HUB = os.environ["WITNESS_HUB"]
OWNER_TOKEN = os.environ["WITNESS_OWNER_TOKEN"]
STRANGER_TOKEN = os.environ["WITNESS_STRANGER_TOKEN"]
READER_TOKEN = os.environ["WITNESS_READER_TOKEN"]
WORK = pathlib.Path(os.environ["WITNESS_WORK"])

SEEN = []
_send = requests.Session.send


def _recording_send(self, request, **options):
    response = _send(self, request, **options)
    SEEN.append((request.method, request.path_url, response.status_code))
    return response


requests.Session.send = _recording_send


def seen(method, part):
    """How many requests with this method had `part` in their path since the last `forget`."""
    return sum(1 for m, path, _ in SEEN if m == method and part in path)


def forget():
    SEEN.clear()


def noise(seed, size):
    """Bytes that do not compress and are the same in every run."""
    out = bytearray()
    block = hashlib.sha256(seed.encode()).digest()
    while len(out) < size:
        block = hashlib.sha256(block).digest()
        out += block
    return bytes(out[:size])


SAMPLE = {
    "README.md": "# Sample\n\nmeta: \u00fcml\u00e4ut\n".encode(),
    "config.json": b'{"hidden_size": 8}\n',
    "empty.txt": b"",
    "empty.bin": b"",
    "model.safetensors": noise("model", 3 * 1024 * 1024 + 17),
    "vocab.txt": noise("vocab", 90 * 1024),
    "folder with space/f\u00fc\u00f1 #1?.txt": b"odd names are names too\n",
    "folder with space/deep/er/weights 100%.bin": noise("deep", 70_000),
    "a+b&c=d.txt": b"query characters\n",
    "\u4e2d\u6587.json": b'{"\\u4e2d": 1}\n',
}


def write_tree(root, tree):
    for path, data in tree.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


def read_tree(root, ignore=()):
    root = pathlib.Path(root)
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name not in ignore and "._____temp" not in file.parts
    }


def sha(data):
    return hashlib.sha256(data).hexdigest()


def same(got, want, what):
    if got != want:
        missing = sorted(set(want) - set(got))
        extra = sorted(set(got) - set(want))
        differ = sorted(k for k in set(got) & set(want) if got[k] != want[k])
        sys.exit(f"{what}: missing {missing}, extra {extra}, different {differ}")


def refused(action, *kinds):
    """Runs `action`, which must raise one of `kinds`; returns the exception."""
    try:
        value = action()
    except kinds as error:
        return error
    sys.exit(f"{action} should have been refused and gave {value!r}")
