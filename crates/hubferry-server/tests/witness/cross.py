"""Publishes the sample through one face, or reads a repository through one and compares it with the sample.

    cross.py publish|read hf|ms|ms-classic model|dataset OWNER/NAME
"""

import os
import pathlib
import sys

from sample import *

VERB, CLIENT, KIND, REPO = sys.argv[1:]
WORK = pathlib.Path(os.environ["WITNESS_WORK"])
TOKEN = os.environ["WITNESS_OWNER_TOKEN"]
HUB = os.environ["WITNESS_HUB"]


def hf(folder):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ["WITNESS_HF"], token=TOKEN)
    if VERB == "publish":
        api.create_repo(REPO, repo_type=KIND, private=True)
        api.upload_folder(repo_id=REPO, repo_type=KIND, folder_path=folder, commit_message="through hf")
        return
    return api.snapshot_download(REPO, repo_type=KIND, local_dir=folder)


def ms(folder):
    from modelscope_hub import HubApi

    api = HubApi(endpoint=HUB, token=TOKEN)
    if VERB == "publish":
        api.create_repo(REPO, KIND, visibility="private")
        api.upload_folder(REPO, KIND, folder, commit_message="through ms")
        return
    return api.download_repo(REPO, KIND, local_dir=folder)


def classic(folder):
    from modelscope.hub.api import HubApi
    from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download

    api = HubApi(endpoint=HUB)
    api.login(TOKEN)
    if VERB == "publish":
        api.create_repo(REPO, repo_type=KIND, visibility="private", create_default_config=False)
        api.upload_folder(repo_id=REPO, repo_type=KIND, folder_path=folder, commit_message="through classic ms")
        return
    fetch = snapshot_download if KIND == "model" else dataset_snapshot_download
    return fetch(REPO, local_dir=str(folder), endpoint=HUB)


client = {"hf": hf, "ms": ms, "ms-classic": classic}[CLIENT]
if VERB == "publish":
    client(write_tree(WORK / "tree", SAMPLE))
else:
    got = read_tree(client(WORK / "got"))
    same({path: data for path, data in got.items() if path in SAMPLE}, SAMPLE, f"{REPO} through {CLIENT}")
print("ok")
