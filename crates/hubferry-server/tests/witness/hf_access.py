"""What strangers, readers and owners may see and do."""

import os
import tempfile

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

alice = HfApi(token=os.environ["ALICE"])
bob = HfApi(token=os.environ["BOB"])
reader = HfApi(token=os.environ["READER"])
nobody = HfApi(token=False)


def refused(error_class, status, what, *args, **kwargs):
    try:
        what(*args, **kwargs)
    except error_class as error:
        assert type(error) is error_class, (error_class, type(error))
        assert error.response.status_code == status, (status, error)
        return error
    raise AssertionError("not refused")


def download(api, repo, name):
    """Downloads into a cache of its own: what one user may read must not come from the cache of another."""
    with tempfile.TemporaryDirectory() as cache:
        api.hf_hub_download(repo, name, cache_dir=cache)
    return True


me = alice.whoami()
assert me["name"] == "alice" and me["type"] == "user" and me["auth"]["accessToken"]["role"] == "write", me
assert reader.whoami()["auth"]["accessToken"]["role"] == "read"
refused(HfHubHTTPError, 401, HfApi(token="hf_wrong").model_info, "alice/x")
try:
    HfApi(token="hf_wrong").whoami()
    raise AssertionError("not refused")
except HfHubHTTPError as error:
    assert error.response.status_code == 401

repo = "alice/secret"
alice.create_repo(repo, private=True)
alice.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
alice.upload_file(path_or_fileobj=b"\0x" * 100, path_in_repo="x.bin", repo_id=repo)
assert alice.model_info(repo).private
assert download(alice, repo, "x.txt") and download(alice, repo, "x.bin")
for stranger, status in ((bob, 404), (reader, 404), (nobody, 401)):
    refused(RepositoryNotFoundError, status, stranger.model_info, repo)
    refused(RepositoryNotFoundError, status, download, stranger, repo, "x.txt")
    refused(RepositoryNotFoundError, status, lambda: list(stranger.list_repo_tree(repo)))
    refused(RepositoryNotFoundError, status, stranger.list_repo_refs, repo)
    refused(RepositoryNotFoundError, status, stranger.auth_check, repo)
    refused(RepositoryNotFoundError, status, stranger.delete_file, "x.txt", repo)
    assert not stranger.repo_exists(repo)
    assert repo not in [m.id for m in stranger.list_models(author="alice")]
assert repo in [m.id for m in alice.list_models(author="alice")]
alice.auth_check(repo)

alice.update_repo_settings(repo, private=False)
assert not bob.model_info(repo).private
assert download(nobody, repo, "x.txt") and download(nobody, repo, "x.bin")
for stranger, status in ((bob, 403), (reader, 403), (nobody, 401)):
    for what in (
        lambda: stranger.upload_file(path_or_fileobj=b"y", path_in_repo="y.txt", repo_id=repo),
        lambda: stranger.update_repo_settings(repo, private=True),
        lambda: stranger.create_branch(repo, branch="dev"),
        lambda: stranger.delete_repo(repo),
        lambda: stranger.move_repo(repo, "bob/stolen"),
        lambda: stranger.create_repo("alice/other"),
    ):
        try:
            what()
            raise AssertionError("not refused")
        except HfHubHTTPError as error:
            assert error.response.status_code == status, (status, error)
            assert "alice" in str(error) or status == 401, error
assert [f for f in alice.list_repo_files(repo)] == [".gitattributes", "x.bin", "x.txt"]

alice.update_repo_settings(repo, gated="manual")
assert bob.model_info(repo).gated == "manual"
for stranger, status in ((bob, 403), (nobody, 401)):
    refused(GatedRepoError, status, stranger.auth_check, repo)
    refused(GatedRepoError, status, download, stranger, repo, "x.txt")
    refused(GatedRepoError, status, snapshot_download, repo, token=stranger.token, cache_dir=f"gated-{status}")
assert download(alice, repo, "x.txt")
alice.update_repo_settings(repo, gated=False)
assert download(bob, repo, "x.txt")

# A namespace that is nobody's name is shared by everybody who may write.
alice.create_repo("some-org/shared", private=True)
bob.upload_file(path_or_fileobj=b"y", path_in_repo="y.txt", repo_id="some-org/shared")
assert download(reader, "some-org/shared", "y.txt")
refused(RepositoryNotFoundError, 401, nobody.model_info, "some-org/shared")
assert {m.id for m in alice.list_models()} == {"alice/secret", "some-org/shared"}
assert {m.id for m in nobody.list_models(limit=1)} == {"alice/secret"}
for bad in ("alice/api--x", "datasets/x"):
    try:
        alice.create_repo(bad)
        raise AssertionError("created")
    except Exception as error:
        assert "AssertionError" not in type(error).__name__, error

print("ok")
