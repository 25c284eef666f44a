"""A small repository with everything that goes wrong in names, sizes and encodings."""

import hashlib
import pathlib
import sys


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
