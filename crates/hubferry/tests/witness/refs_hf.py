"""Lists branches and tags with huggingface_hub, unmodified: refs_hf.py model|dataset OWNER/NAME"""

import json
import sys

from huggingface_hub import HfApi

kind, repo = sys.argv[1:]
refs = HfApi().list_repo_refs(repo, repo_type=kind)
print(json.dumps({"branches": {ref.name: ref.target_commit for ref in refs.branches}, "tags": {ref.name: ref.target_commit for ref in refs.tags}}))
