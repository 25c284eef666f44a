"""The cache of ModelScope's clients, unmodified: cache_ms.py new|classic model|dataset OWNER/NAME [offline]; prints folder and hashes as JSON"""

import hashlib
import json
import os
import sys

generation, kind, repo, *offline = sys.argv[1:]
endpoint = os.environ["MODELSCOPE_ENDPOINT"]
token = os.environ.get("MODELSCOPE_API_TOKEN")

if generation == "new":
    from modelscope_hub import HubApi

    folder = HubApi(endpoint=endpoint, token=token).download_repo(repo, kind, local_files_only=bool(offline))
else:
    from modelscope.hub.api import HubApi
    from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download

    if token and not offline:
        HubApi(endpoint=endpoint).login(token)
    fetch = snapshot_download if kind == "model" else dataset_snapshot_download
    folder = fetch(repo, endpoint=endpoint, local_files_only=bool(offline))

found = {}
for root, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(root, name)
        with open(path, "rb") as file:
            found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
print(json.dumps({"path": str(folder), "files": found}))
