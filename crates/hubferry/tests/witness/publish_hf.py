"""Publishes a folder with huggingface_hub, unmodified: publish_hf.py model|dataset OWNER/NAME FOLDER"""

import sys

from huggingface_hub import HfApi

kind, repo, folder = sys.argv[1:]
api = HfApi()
api.create_repo(repo, repo_type=kind, private=False)
done = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message="Publish", ignore_patterns=[".done"])
print(done.oid)
