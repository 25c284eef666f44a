"""A repository of several listing pages, committed at once."""

import os
import time

from huggingface_hub import CommitOperationAdd, HfApi

api = HfApi(token=os.environ["ALICE"])
repo = "alice/large"
api.create_repo(repo)
count = 2500
adds = [CommitOperationAdd(f"part-{n // 500}/file {n:05}.json", b'{"n": %d}' % n) for n in range(count)]
api.create_commit(repo, adds, commit_message="many")
start = time.time()
tree = list(api.list_repo_tree(repo, recursive=True))
assert len(tree) == count + 5 + 1, len(tree)
assert len({e.path for e in tree}) == len(tree)
expanded = list(api.list_repo_tree(repo, path_in_repo="part-0", expand=True))
assert len(expanded) == 500 and all(e.last_commit.title == "many" for e in expanded)
assert len(api.get_paths_info(repo, [f"part-0/file {n:05}.json" for n in range(500)])) == 500
print("ok", time.time() - start)
