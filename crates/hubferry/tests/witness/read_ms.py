"""Downloads a repository with a ModelScope client, unmodified: read_ms.py new|classic model|dataset OWNER/NAME FOLDER [REVISION]

The classic client prefixes `https://` to MODELSCOPE_DOMAIN, so it is told the plain-http hub by its `endpoint` arguments.
"""

import os
import sys

generation, kind, repo, folder, *revision = sys.argv[1:]
# Their default is not `None` everywhere.
at = {"revision": revision[0]} if revision else {}
endpoint = os.environ["MODELSCOPE_ENDPOINT"]
token = os.environ.get("MODELSCOPE_API_TOKEN")

if generation == "new":
    from modelscope_hub import HubApi

    print(HubApi(endpoint=endpoint, token=token).download_repo(repo, kind, local_dir=folder, **at))
else:
    from modelscope.hub.api import HubApi
    from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download

    if token:
        HubApi(endpoint=endpoint).login(token)
    fetch = snapshot_download if kind == "model" else dataset_snapshot_download
    print(fetch(repo, local_dir=folder, **at, endpoint=endpoint))
