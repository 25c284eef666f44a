"""modelscope 1.37.1, the last classic client, unmodified, against the ModelScope face.

It prefixes `https://` to `MODELSCOPE_DOMAIN`, so a plain-http hub is named through the documented `endpoint` arguments instead.
"""

from ms_common import *

from modelscope.hub.api import HubApi
from modelscope.hub.file_download import dataset_file_download, model_file_download
from modelscope.hub.snapshot_download import dataset_snapshot_download, snapshot_download
from requests.exceptions import HTTPError

api = HubApi(endpoint=HUB)
COMMIT_NOISE = (".msc", ".mv", ".mdl", ".gitattributes", "dataset_infos.json")


def sign_in():
    _, cookies = api.login(OWNER_TOKEN)
    assert cookies["m_session_id"], cookies
    refused(lambda: HubApi(endpoint=HUB).login("ms-wrong"), HTTPError)
    refused(lambda: HubApi(endpoint=HUB).login(READER_TOKEN), HTTPError)


def files_of(repo, kind):
    if kind == "model":
        entries = api.get_model_files(repo, recursive=True, use_cookies=True)
    else:
        entries = api.get_dataset_files(repo, recursive=True)
    return {entry["Path"]: entry for entry in entries if entry["Type"] == "blob"}


def publish(repo, kind):
    assert not api.repo_exists(repo, repo_type=kind)
    api.create_repo(repo, repo_type=kind, visibility="public", create_default_config=False)
    assert api.repo_exists(repo, repo_type=kind)
    api.upload_folder(repo_id=repo, repo_type=kind, folder_path=write_tree(WORK / f"classic-{kind}", SAMPLE), commit_message="sample")
    files = files_of(repo, kind)
    for path, data in SAMPLE.items():
        assert (files[path]["Size"], files[path]["Sha256"]) == (len(data), sha(data)), files[path]
        assert files[path]["Revision"] and files[path]["CommittedDate"] > 1_700_000_000, files[path]
    api.upload_file(path_or_fileobj=b"one\n", path_in_repo="one.txt", repo_id=repo, repo_type=kind)
    assert files_of(repo, kind)["one.txt"]["Sha256"] == sha(b"one\n")
    history = api.list_repo_commits(repo, repo_type=kind)
    assert history.total_count == len(history.commits) >= 3, history
    forget()
    api.upload_folder(repo_id=repo, repo_type=kind, folder_path=write_tree(WORK / f"classic-{kind}-2", SAMPLE), commit_message="again")
    assert seen("POST", "/batch") > 0 and seen("PUT", "/blobs/") == 0, SEEN


def snapshot(repo, kind, folder):
    fetch = snapshot_download if kind == "model" else dataset_snapshot_download
    return fetch(repo, local_dir=str(WORK / folder), endpoint=HUB)


def download(repo, kind):
    got = read_tree(snapshot(repo, kind, f"classic-down-{kind}"), COMMIT_NOISE)
    same(got, SAMPLE | {"one.txt": b"one\n"}, f"snapshot_download {kind}")
    fetch = model_file_download if kind == "model" else dataset_file_download
    path = fetch(repo, "folder with space/deep/er/weights 100%.bin" if kind == "dataset" else "model.safetensors",
                 local_dir=str(WORK / f"classic-one-{kind}"), endpoint=HUB)
    want = SAMPLE["folder with space/deep/er/weights 100%.bin" if kind == "dataset" else "model.safetensors"]
    assert open(path, "rb").read() == want


def info(repo, kind):
    about = api.repo_info(repo, repo_type=kind, revision="master")
    assert about.name == repo.split("/")[1] and about.author == "alice", about
    assert about.visibility == 5 and about.sha and len(about.sha) == 40, about
    assert {sibling.rfilename for sibling in about.siblings} >= set(SAMPLE), about.siblings


def visibility(repo, kind):
    api.set_repo_visibility(repo, kind, "private")
    os.environ["HOME"] = str(WORK)
    stranger = HubApi(endpoint=HUB, token=None)
    import modelscope.hub.api as module

    keep, module.ModelScopeConfig.path_credential = module.ModelScopeConfig.path_credential, str(WORK / "nobody")
    assert not stranger.repo_exists(repo, repo_type=kind)
    module.ModelScopeConfig.path_credential = keep
    assert api.repo_exists(repo, repo_type=kind)
    read_tree(snapshot(repo, kind, f"classic-private-{kind}"))
    api.set_repo_visibility(repo, kind, "public")
    assert stranger.repo_exists(repo, repo_type=kind)


def main():
    sign_in()
    for kind in ("model", "dataset"):
        repo = f"alice/classic.{kind}"
        publish(repo, kind)
        info(repo, kind)
        download(repo, kind)
        visibility(repo, kind)
    api.create_model_tag("alice/classic.model", "v9")
    branches, tags = api.get_model_branches_and_tags("alice/classic.model", use_cookies=True)
    assert branches == ["master"] and tags == ["v9"], (branches, tags)
    outcome = api.delete_files("alice/classic.model", "model", "one.txt")
    assert outcome["failed_files"] == ["one.txt"], outcome
    page = api.list_models("alice")
    assert {m["Name"] for m in page["Models"]} >= {"classic.model"} and page["TotalCount"] >= 1, page
    rows = api.list_datasets("alice")
    assert rows["total_count"] >= 1, rows
    print("ok")


main()
