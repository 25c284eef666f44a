"""Commits with copies and deletions, branches, tags, history, and a head that moved."""

import os

from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

api = HfApi(token=os.environ["ALICE"])
repo = "alice/changing"
api.create_repo(repo)
first = api.model_info(repo).sha


def refused(error_class, status, what, *args, **kwargs):
    try:
        what(*args, **kwargs)
    except error_class as error:
        assert status is None or error.response.status_code == status, (status, error)
        return error
    raise AssertionError(f"{what} was not refused")


def files(revision=None):
    return set(api.list_repo_files(repo, revision=revision)) - {".gitattributes"}


two = api.create_commit(
    repo,
    operations=[
        CommitOperationAdd("a.txt", b"a"),
        CommitOperationAdd("dir/b.txt", b"b"),
        CommitOperationAdd("dir/sub/c.txt", b"c"),
        CommitOperationAdd("w.bin", b"\0weights" * 1000),
    ],
    commit_message="Add",
    commit_description="with a description",
    parent_commit=first,
)
assert files() == {"a.txt", "dir/b.txt", "dir/sub/c.txt", "w.bin"}
three = api.create_commit(
    repo,
    operations=[
        CommitOperationCopy("w.bin", "copies/w2.bin"),
        CommitOperationCopy("a.txt", "copies/a2.txt"),
        CommitOperationDelete("a.txt"),
        CommitOperationDelete("dir/"),
    ],
    commit_message="Copy and delete",
)
assert files() == {"copies/w2.bin", "copies/a2.txt", "w.bin"}
assert files(two.oid) == {"a.txt", "dir/b.txt", "dir/sub/c.txt", "w.bin"}
api.delete_file("copies/a2.txt", repo)
api.delete_folder("copies", repo)
assert files() == {"w.bin"}



def add():
    return [CommitOperationAdd("late.txt", b"late")]


error = refused(HfHubHTTPError, 412, api.create_commit, repo, add(), commit_message="late", parent_commit=three.oid)
assert "A commit has happened since" in str(error), error
refused(HfHubHTTPError, 412, api.create_commit, repo, add(), commit_message="late", parent_commit=three.oid[:7])
api.create_commit(repo, add(), commit_message="in time", parent_commit=api.model_info(repo).sha)
refused(EntryNotFoundError, 404, api.delete_file, "absent.txt", repo)
refused(RevisionNotFoundError, 404, api.create_commit, repo, add(), commit_message="x", revision="absent")

api.create_branch(repo, branch="dev", revision=two.oid)
refused(HfHubHTTPError, 409, api.create_branch, repo, branch="dev")
api.create_branch(repo, branch="dev", exist_ok=True)
refused(HfHubHTTPError, 400, api.create_branch, repo, branch="refs/pr/5")
api.create_branch(repo, branch="feature/x")
api.upload_file(path_or_fileobj=b"dev", path_in_repo="dev.txt", repo_id=repo, revision="dev")
assert "dev.txt" in files("dev") and "dev.txt" not in files()
assert files("feature/x") == files("main")
api.create_tag(repo, tag="v1", revision="dev", tag_message="one")
refused(HfHubHTTPError, 409, api.create_tag, repo, tag="v1")
refused(RevisionNotFoundError, 404, api.create_tag, repo, tag="v2", revision="absent")
refs = api.list_repo_refs(repo, include_pull_requests=True)
assert {b.name for b in refs.branches} == {"main", "dev", "feature/x"} and [t.name for t in refs.tags] == ["v1"]
assert refs.pull_requests == [] and refs.tags[0].ref == "refs/tags/v1"
assert files("v1") == files("dev") == files("refs/heads/dev")
api.delete_branch(repo, branch="dev")
refused(HfHubHTTPError, None, api.delete_branch, repo, branch="main")
refused(RevisionNotFoundError, 404, api.delete_branch, repo, branch="dev")
api.delete_tag(repo, tag="v1")
refused(RevisionNotFoundError, 404, api.delete_tag, repo, tag="v1")

for n in range(60):
    api.create_commit(repo, [CommitOperationAdd("n.txt", str(n).encode())], commit_message=f"n {n}")
commits = api.list_repo_commits(repo, formatted=True)
assert commits[0].title == "n 59" and commits[-1].commit_id == first and len(commits) == 66, len(commits)
described = [c for c in commits if c.title == "Add"][0]
assert described.message == "with a description" and described.authors == ["alice"]

assert api.file_exists(repo, "n.txt") and not api.file_exists(repo, "absent")
assert api.revision_exists(repo, "main") and not api.revision_exists(repo, "absent") and api.repo_exists(repo)
refused(RevisionNotFoundError, 404, api.model_info, repo, revision="absent")
refused(EntryNotFoundError, 404, lambda: list(api.list_repo_tree(repo, path_in_repo="absent")))
refused(EntryNotFoundError, 404, api.hf_hub_download, repo, "absent")

api.super_squash_history(repo)
assert len(api.list_repo_commits(repo)) == 1 and files() == {"w.bin", "n.txt", "late.txt"}

api.move_repo(repo, "alice/moved")
assert api.model_info("alice/moved").id == "alice/moved"
assert api.model_info(repo).id == "alice/moved", "the old name leads to the new one"
assert api.hf_hub_download(repo, "n.txt", force_download=True)
assert api.model_info("Alice/MOVED").id == "alice/moved"
api.delete_repo("alice/moved")
refused(RepositoryNotFoundError, 404, api.model_info, "alice/moved")
refused(RepositoryNotFoundError, 404, api.delete_repo, "alice/moved")
api.delete_repo("alice/moved", missing_ok=True)

print("ok")
