-- Ids are written in hexadecimal, so that the database can be read with any SQLite tool.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE repos (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    owner      TEXT NOT NULL,
    name       TEXT NOT NULL,
    -- lower case owner/name: names that differ only in case are one repository
    folded     TEXT NOT NULL,
    visibility TEXT NOT NULL,
    gated      TEXT NOT NULL,
    license    TEXT,
    -- what one face wants to keep with the repository, as JSON
    details    TEXT NOT NULL,
    created    INTEGER NOT NULL,
    modified   INTEGER NOT NULL,
    UNIQUE (kind, folded)
);

-- Old names of renamed repositories; a repository created under an old name takes it over.
CREATE TABLE moved (
    kind   TEXT NOT NULL,
    folded TEXT NOT NULL,
    repo   INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    PRIMARY KEY (kind, folded)
) WITHOUT ROWID;
CREATE INDEX moved_repo ON moved (repo);

CREATE TABLE refs (
    repo    INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    -- the full name: refs/heads/main
    name    TEXT NOT NULL,
    target  TEXT NOT NULL,
    message TEXT,
    changed INTEGER NOT NULL,
    PRIMARY KEY (repo, name)
) WITHOUT ROWID;

-- Trees and commits exactly as Git hashes them, without the header.
CREATE TABLE objects (
    id    TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) WITHOUT ROWID;

-- What a Git blob id means: the content, and whether the Git blob is an LFS pointer to it.
CREATE TABLE files (
    id     TEXT PRIMARY KEY,
    sha256 TEXT NOT NULL,
    size   INTEGER NOT NULL,
    lfs    INTEGER NOT NULL
) WITHOUT ROWID;

-- Every blob that can be read. Small ones live here, the others in the folder.
CREATE TABLE blobs (
    sha256  TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,
    content BLOB
) WITHOUT ROWID;

-- LFS objects that were uploaded to a repository; only those may be named by its commits on Hugging Face.
CREATE TABLE lfs_objects (
    repo   INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (repo, sha256)
) WITHOUT ROWID;

CREATE TABLE commits (
    -- grows along every line of history
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    repo    INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    id      TEXT NOT NULL,
    parent  TEXT,
    tree    TEXT NOT NULL,
    author  TEXT NOT NULL,
    time    INTEGER NOT NULL,
    message TEXT NOT NULL,
    UNIQUE (repo, id)
);

-- Which commit touched which path (folders included), for "last commit of a file".
CREATE TABLE touched (
    repo INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    seq  INTEGER NOT NULL REFERENCES commits (seq) ON DELETE CASCADE,
    PRIMARY KEY (repo, path, seq)
) WITHOUT ROWID;
CREATE INDEX touched_seq ON touched (seq);

PRAGMA user_version = 1;
