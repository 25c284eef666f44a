"""Downloads a repository with huggingface_hub, unmodified: read_hf.py model|dataset OWNER/NAME FOLDER [REVISION]"""

import sys

from huggingface_hub import snapshot_download

kind, repo, folder, *revision = sys.argv[1:]
print(snapshot_download(repo, repo_type=kind, local_dir=folder, revision=(revision or [None])[0]))
