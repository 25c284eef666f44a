"""Publishes a folder in every way the client knows, and reads it back in every way."""

import hashlib
import os
import pathlib
import random

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.hf_api import RepoFile, RepoFolder

token = os.environ["ALICE"]
api = HfApi(token=token)

for kind in ("model", "dataset", "space"):
    repo = f"alice/published-{kind}"
    url = api.create_repo(repo, repo_type=kind, space_sdk="static" if kind == "space" else None)
    assert url.repo_id == repo and url.repo_type == kind, url
    assert api.create_repo(repo, repo_type=kind, space_sdk="static" if kind == "space" else None, exist_ok=True).repo_id == repo
    try:
        api.create_repo(repo, repo_type=kind, space_sdk="static" if kind == "space" else None)
        raise AssertionError("created twice")
    except Exception as error:
        assert error.response.status_code == 409, error

    rng = random.Random(kind)
    files = {
        "README.md": b"---\nlicense: mit\n---\n# A card\n",
        "config.json": b'{"a": 1}\n',
        "empty.txt": b"",
        "empty.bin": b"",
        "deep/er/and deeper/\u00fcml\u00e4ut #1 100%.json": b"{}",
        "deep/plus+and&amp;.txt": "gr\u00fc\u00dfe\n".encode(),
        "small.bin": rng.randbytes(1000),
        "model.safetensors": rng.randbytes(3 * 1024 * 1024 + 17),
        "exact.bin": rng.randbytes(2 * 1024 * 1024),
        "weird #name?.bin": rng.randbytes(70_000),
        "no extension but binary": bytes(range(256)) * 10,
        "larger.txt": b"text line\n" * 200_000,
    }
    folder = pathlib.Path(f"folder-{kind}")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    commit = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="All files")
    assert commit.commit_url.endswith(commit.oid) and len(commit.oid) == 40, commit
    api.upload_file(repo_id=repo, repo_type=kind, path_or_fileobj=b"one more", path_in_repo="one/more.txt")
    files["one/more.txt"] = b"one more"
    # Nothing changed: no new commit.
    head = api.repo_info(repo, repo_type=kind).sha
    api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder)
    assert api.repo_info(repo, repo_type=kind).sha == head

    tree = list(api.list_repo_tree(repo, repo_type=kind, recursive=True, expand=True))
    listed = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    assert set(listed) == set(files) | {".gitattributes"}, set(listed) ^ set(files)
    assert {e.path for e in tree if isinstance(e, RepoFolder)} == {"deep", "deep/er", "deep/er/and deeper", "one"}
    for name, content in files.items():
        entry = listed[name]
        assert entry.size == len(content), name
        assert entry.last_commit.title in ("All files", "Upload one/more.txt with huggingface_hub"), entry.last_commit
        if entry.lfs:
            assert entry.lfs.sha256 == hashlib.sha256(content).hexdigest(), name
        else:
            assert entry.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), name
        assert bool(entry.lfs) == (name.endswith((".bin", ".safetensors")) and len(content) > 0 or name == "no extension but binary"), name
    assert {e.path for e in api.list_repo_tree(repo, path_in_repo="deep/er", repo_type=kind)} == {"deep/er/and deeper"}
    assert set(api.list_repo_files(repo, repo_type=kind)) == set(listed)

    info = api.repo_info(repo, repo_type=kind, files_metadata=True)
    assert {s.rfilename: s.size for s in info.siblings} == {n: e.size for n, e in listed.items()}
    assert info.card_data["license"] == "mit" and not info.private

    got = snapshot_download(repo, repo_type=kind, token=token, cache_dir="cache")
    for name, content in files.items():
        assert (pathlib.Path(got) / name).read_bytes() == content, name
    # Anonymous, a pinned revision, a folder of its own.
    got = snapshot_download(repo, repo_type=kind, token=False, revision=head, local_dir=f"local-{kind}")
    for name, content in files.items():
        assert (pathlib.Path(got) / name).read_bytes() == content, name
    for name in files:
        one = hf_hub_download(repo, name, repo_type=kind, token=token, cache_dir="single", force_download=True)
        assert pathlib.Path(one).read_bytes() == files[name], name
    result = api.verify_repo_checksums(repo, repo_type=kind, local_dir=f"local-{kind}")
    assert not result.mismatches and not result.missing_paths, result

    found = api.get_paths_info(repo, ["config.json", "absent", "deep", "model.safetensors"], repo_type=kind)
    assert [e.path for e in found] == ["config.json", "deep", "model.safetensors"], found
    meta = api.get_paths_info(repo, "model.safetensors", repo_type=kind, expand=True)[0]
    assert meta.last_commit.oid == commit.oid

print("ok")
