"""Reads receipts with the in-toto library and holds them against files on disk: check_receipt.py RECEIPTS FOLDER...

The receipts stand one on each line, a folder for each of them holds what a stranger downloaded."""

import hashlib
import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1 import statement_pb2

receipts, *folders = sys.argv[1:]
lines = pathlib.Path(receipts).read_text(encoding="utf-8").splitlines()
assert len(lines) == len(folders), (len(lines), folders)
for line, folder in zip(lines, folders):
    json.loads(line)
    statement = Statement.copy_from_pb(json_format.Parse(line, statement_pb2.Statement()))
    statement.validate()
    assert statement.pb.predicate_type == "urn:hubferry:copy:1"
    proven = 0
    for subject in statement.pb.subject:
        content = pathlib.Path(folder, subject.name).read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found = {"sha256": hashlib.sha256(content).hexdigest(), "gitBlob": git}
        assert subject.digest and all(found[name] == digest for name, digest in subject.digest.items()), subject
        proven += 1
    print(proven, "proven")
