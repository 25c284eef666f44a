"""Publishes a folder with modelscope-hub, unmodified: publish_ms.py model|dataset OWNER/NAME FOLDER"""

import os
import sys

from modelscope_hub import HubApi

kind, repo, folder = sys.argv[1:]
api = HubApi(endpoint=os.environ["MODELSCOPE_ENDPOINT"], token=os.environ["MODELSCOPE_API_TOKEN"])
api.create_repo(repo, kind, visibility="public")
api.upload_folder(repo, kind, folder, commit_message="Publish")
