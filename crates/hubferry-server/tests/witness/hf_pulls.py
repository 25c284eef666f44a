"""Pull requests with the stock client: opened both ways, read, merged, refused."""

import os

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

alice = HfApi(token=os.environ["ALICE"])
reader = HfApi(token=os.environ["READER"])
REPO = "alice/pulls"
alice.create_repo(REPO)
alice.upload_file(path_or_fileobj=b"one\n", path_in_repo="old.txt", repo_id=REPO)
before = alice.repo_info(REPO).sha


def refused(status, call):
    try:
        call()
    except HfHubHTTPError as error:
        assert error.response.status_code == status, (status, error)
    else:
        raise AssertionError(f"this should have been refused with {status}")


def read(path, revision):
    return open(hf_hub_download(REPO, path, revision=revision, token=os.environ["ALICE"]), "rb").read()


# Opened first, filled by several commits, merged as one.
pull = alice.create_pull_request(REPO, title="Several commits", description="Source: nowhere")
assert (pull.num, pull.status, pull.git_reference, pull.target_branch) == (1, "draft", "refs/pr/1", "refs/heads/main"), pull
alice.create_commit(REPO, [CommitOperationAdd("a.txt", b"a\n")], commit_message="first", revision="refs/pr/1", parent_commit=before)
big = os.urandom(3 << 20)
alice.create_commit(REPO, [CommitOperationAdd("w.bin", big), CommitOperationDelete("old.txt")], commit_message="second", revision="refs/pr/1")
assert set(alice.list_repo_files(REPO)) == {".gitattributes", "old.txt"}, "readers see nothing of it"
assert set(alice.list_repo_files(REPO, revision="refs/pr/1")) == {".gitattributes", "a.txt", "w.bin"}
assert read("w.bin", "refs/pr/1") == big
refused(412, lambda: alice.create_commit(REPO, [CommitOperationAdd("b", b"b")], commit_message="x", revision="refs/pr/1", parent_commit=before))
refused(409, lambda: alice.merge_pull_request(REPO, 1))
refused(403, lambda: reader.merge_pull_request(REPO, 1))
alice.change_discussion_status(REPO, 1, new_status="open")
details = alice.get_discussion_details(REPO, 1)
assert [event.type for event in details.events] == ["comment", "commit", "commit", "status-change"], details.events
assert [event.summary for event in details.events[1:3]] == ["first", "second"]
alice.merge_pull_request(REPO, 1)
after = alice.repo_info(REPO).sha
details = alice.get_discussion_details(REPO, 1)
assert (details.status, details.merge_commit_oid) == ("merged", after)
log = alice.list_repo_commits(REPO)
assert (log[0].commit_id, log[0].title, log[1].commit_id) == (after, "Several commits (#1)", before), log[:2]
assert "Source: nowhere" in log[0].message
folder = snapshot_download(REPO, token=os.environ["ALICE"])
assert sorted(os.listdir(folder)) == [".gitattributes", "a.txt", "w.bin"]
last = alice.get_paths_info(REPO, ["w.bin"], expand=True)[0].last_commit
assert last.oid == after, last

# Opened by its first commit.
made = alice.create_commit(REPO, [CommitOperationAdd("c.txt", b"c\n")], commit_message="Add c", create_pr=True)
assert (made.pr_num, made.pr_revision) == (2, "refs/pr/2"), made
assert alice.list_repo_refs(REPO, include_pull_requests=True).pull_requests[-1].ref == "refs/pr/2"
# The branch goes on: this hub merges no files.
alice.upload_file(path_or_fileobj=b"two\n", path_in_repo="new.txt", repo_id=REPO)
refused(409, lambda: alice.merge_pull_request(REPO, 2))
alice.change_discussion_status(REPO, 2, new_status="closed")
refused(400, lambda: alice.create_commit(REPO, [CommitOperationAdd("d", b"d")], commit_message="x", revision="refs/pr/2"))
found = [(pull.num, pull.status) for pull in alice.get_repo_discussions(REPO)]
assert found == [(2, "closed"), (1, "merged")], found
assert [pull.num for pull in alice.get_repo_discussions(REPO, discussion_status="open")] == []
refused(404, lambda: alice.get_discussion_details(REPO, 99))
refused(400, lambda: alice.create_discussion(REPO, title="Only words"))
print("ok")
