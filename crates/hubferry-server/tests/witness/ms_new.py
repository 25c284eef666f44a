"""modelscope-hub 0.5.1, unmodified, against the ModelScope face: everything a publisher and a reader do."""

from ms_common import *

from modelscope_hub import HubApi
from modelscope_hub.errors import AlreadyExistsError, APIError, AuthenticationError, HubError, NotExistError

PLATFORM = {"model": {".gitattributes"}, "dataset": {".gitattributes", "dataset_infos.json"}}
api = HubApi()
stranger = HubApi(endpoint=HUB, token=STRANGER_TOKEN)
nobody = HubApi(endpoint=HUB, token="")


def sign_in():
    me = api.login(OWNER_TOKEN)
    assert me.username == "alice", me
    assert api.whoami().username == "alice"
    refused(lambda: HubApi(endpoint=HUB, token="ms-wrong").whoami(), AuthenticationError)
    scoped = HubApi(endpoint=HUB).login(READER_TOKEN)
    assert scoped.username == "rita", scoped
    api.login(OWNER_TOKEN)


def listing(repo, kind, revision="master"):
    files = api.list_repo_files(repo, kind, revision=revision)
    return {file.path: file for file in files if file.type != "tree"}


def publish(repo, kind):
    assert not api.repo_exists(repo, kind)
    created = api.create_repo(repo, kind, visibility="public", license="apache-2.0", description="a sample")
    assert created.repo_id == repo, created
    refused(lambda: api.create_repo(repo, kind), AlreadyExistsError)
    assert api.repo_exists(repo, kind)
    fresh = set(listing(repo, kind))
    assert fresh == {"README.md"} | PLATFORM[kind], fresh
    folder = write_tree(WORK / f"new-{kind}", SAMPLE)
    api.upload_folder(repo, kind, folder, commit_message="the sample")
    files = listing(repo, kind)
    assert set(files) == set(SAMPLE) | PLATFORM[kind], sorted(files)
    for path, data in SAMPLE.items():
        assert (files[path].size, files[path].sha256) == (len(data), sha(data)), files[path]


def upload_again(repo, kind):
    """The hub holds every byte already: another folder with the same files moves none of them."""
    forget()
    folder = write_tree(WORK / f"again-{kind}", SAMPLE)
    api.upload_folder(repo, kind, folder, commit_message="the same again")
    assert seen("POST", "/info/lfs/objects/batch") > 0, SEEN
    assert seen("PUT", "/blobs/") == 0, SEEN


def download(repo, kind, client=None):
    target = WORK / f"down-{kind}"
    got = (client or api).download_repo(repo, kind, local_dir=target)
    same({k: v for k, v in read_tree(got).items() if k in SAMPLE}, SAMPLE, f"download_repo {kind}")
    one = (client or api).download_file(repo, kind, "folder with space/f\u00fc\u00f1 #1?.txt", local_dir=WORK / f"one-{kind}")
    assert one.read_bytes() == SAMPLE["folder with space/f\u00fc\u00f1 #1?.txt"]
    refused(lambda: api.download_file(repo, kind, "absent.bin", local_dir=WORK / "absent"), NotExistError)


def parallel(repo, kind):
    """Above the threshold the client asks for ranges side by side and insists on exact ones."""
    import modelscope_hub._download as download_module

    assert download_module.DOWNLOAD_PARALLELS == 4
    download_module.DOWNLOAD_PARALLEL_THRESHOLD = 1024 * 1024
    part, download_module.DOWNLOAD_PART_SIZE = download_module.DOWNLOAD_PART_SIZE, 512 * 1024
    forget()
    data = SAMPLE["model.safetensors"]
    path = api.downloader.download_file(
        repo, kind, "model.safetensors", local_dir=WORK / f"parallel-{kind}", expected_sha256=sha(data), file_size=len(data)
    )
    assert path.read_bytes() == data
    assert sum(1 for m, _, status in SEEN if m == "GET" and status == 206) >= 7, SEEN
    download_module.DOWNLOAD_PART_SIZE = part


def single_files(repo, kind):
    api.upload_file(repo, kind, b"second\n", "notes/second.txt", commit_message="inline")
    blob = noise(f"second-{kind}", 400_000)
    api.upload_file(repo, kind, blob, "notes/second.bin", commit_message="lfs")
    got = api.download_file(repo, kind, "notes/second.bin", local_dir=WORK / f"second-{kind}")
    assert got.read_bytes() == blob
    api.create_repo_tag(repo, kind, "v1.0")
    names = {entry["Revision"] for entry in api.list_repo_revisions(repo, kind)}
    assert {"master", "v1.0"} <= names, names
    api.delete_files(repo, kind, delete_patterns="notes/*")
    assert not any(path.startswith("notes/") for path in listing(repo, kind))
    old = api.download_file(repo, kind, "notes/second.txt", revision="v1.0", local_dir=WORK / f"tagged-{kind}")
    assert old.read_bytes() == b"second\n"
    refused(lambda: api.upload_file(repo, kind, b"x", "x.txt", revision="v1.0"), HubError)


def private(repo, kind):
    api.create_repo(repo, kind, visibility="private")
    api.upload_file(repo, kind, b"secret\n", "secret.txt")
    api.upload_file(repo, kind, noise("secret", 100_000), "secret.bin")
    assert not stranger.repo_exists(repo, kind)
    assert not nobody.repo_exists(repo, kind)
    for client in (stranger, nobody):
        refused(lambda: client.list_repo_files(repo, kind), NotExistError)
        refused(lambda: client.download_file(repo, kind, "secret.txt", local_dir=WORK / "stolen"), NotExistError)
        refused(lambda: client.upload_file(repo, kind, b"x", "x.txt"), APIError)
    assert api.download_file(repo, kind, "secret.bin", local_dir=WORK / f"own-{kind}").stat().st_size == 100_000
    mine = [item.repo_id for item in api.list_repos(kind, owner="alice", page_size=50).items]
    theirs = [item.repo_id for item in stranger.list_repos(kind, owner="alice", page_size=50).items]
    assert repo not in theirs and f"alice/new-{kind}" in theirs, theirs
    assert f"alice/new-{kind}" in mine, mine
    refused(lambda: api.delete_repo(repo, kind), HubError)
    assert api.repo_exists(repo, kind)


def main():
    sign_in()
    for kind in ("model", "dataset"):
        repo = f"alice/new-{kind}"
        publish(repo, kind)
        upload_again(repo, kind)
        download(repo, kind)
        download(repo, kind, nobody)
        parallel(repo, kind)
        single_files(repo, kind)
        private(f"alice/hidden.{kind}", kind)
    rows = api.legacy.list_datasets(owner="alice")
    assert {row["Name"] for row in rows["items"]} == {"new-dataset", "hidden.dataset"}, rows
    assert api.legacy.list_datasets(owner="alice", page_number=9)["items"] == []
    print("ok")


main()
