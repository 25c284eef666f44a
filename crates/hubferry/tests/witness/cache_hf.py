"""The cache as huggingface_hub sees it, unmodified; one JSON object on stdout.

cache_hf.py snapshot KIND REPO [REVISION]      snapshot_download: the folder and every file in it
cache_hf.py local KIND REPO FOLDER [REVISION]  snapshot_download into a folder
cache_hf.py file KIND REPO FILE [REVISION]     hf_hub_download: where the file is
cache_hf.py known KIND REPO FILE               try_to_load_from_cache: a path, "absent" or null
cache_hf.py scan                               scan_cache_dir
cache_hf.py verify KIND REPO [REVISION]        what `hf cache verify` does
cache_hf.py share FILE XET_HASH                moves the blob of a file of a snapshot into the shared store, as after a download by Xet
cache_hf.py remove COMMIT                      delete_revisions
"""

import hashlib
import json
import os
import sys

import huggingface_hub as hub
from huggingface_hub.errors import EntryNotFoundError

what, *args = sys.argv[1:]


def files(folder):
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            inside = os.path.relpath(path, folder)
            if not inside.startswith(".cache"):
                with open(path, "rb") as file:
                    found[inside] = hashlib.sha256(file.read()).hexdigest()
    return found


def optional(position):
    return args[position] if len(args) > position else None


if what == "snapshot":
    folder = hub.snapshot_download(args[1], repo_type=args[0], revision=optional(2))
    answer = {"path": folder, "files": files(folder)}
elif what == "local":
    folder = hub.snapshot_download(args[1], repo_type=args[0], local_dir=args[2], revision=optional(3))
    answer = {"path": folder, "files": files(folder)}
elif what == "file":
    try:
        answer = hub.hf_hub_download(args[1], args[2], repo_type=args[0], revision=optional(3))
    except EntryNotFoundError:
        answer = None
elif what == "known":
    found = hub.try_to_load_from_cache(args[1], args[2], repo_type=args[0])
    answer = found if found is None or isinstance(found, str) else "absent"
elif what == "scan":
    info = hub.scan_cache_dir()
    answer = {
        "warnings": [str(warning) for warning in info.warnings],
        "size": info.size_on_disk,
        "incomplete": len(getattr(info, "incomplete_files", ())),
        "repos": {
            f"{repo.repo_type}/{repo.repo_id}": {
                revision.commit_hash: {"refs": sorted(revision.refs), "files": sorted(str(file.file_path.relative_to(revision.snapshot_path)) for file in revision.files)}
                for revision in repo.revisions
            }
            for repo in info.repos
        },
    }
elif what == "verify":
    found = hub.HfApi().verify_repo_checksums(args[1], repo_type=args[0], revision=optional(2))
    answer = {"checked": found.checked_count, "bad": len(found.mismatches), "missing": found.missing_paths, "extra": found.extra_paths}
elif what == "share":
    from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

    blob = os.path.join(os.path.dirname(args[0]), os.readlink(args[0]))
    blob = os.path.abspath(blob)
    answer = publish_blob_to_shared_store(
        blob_path=blob, xet_hash=args[1], cache_dir=hub.constants.HF_HUB_CACHE, expected_size=os.path.getsize(blob)
    )
elif what == "remove":
    hub.scan_cache_dir().delete_revisions(args[0]).execute()
    answer = None
json.dump(answer, sys.stdout)
