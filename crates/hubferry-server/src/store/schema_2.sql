-- Pull requests. Their commits lie at refs/pr/{num}.
CREATE TABLE pulls (
    repo        INTEGER NOT NULL REFERENCES repos (id) ON DELETE CASCADE,
    num         INTEGER NOT NULL,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    author      TEXT NOT NULL,
    -- draft, open, closed, merged
    status      TEXT NOT NULL,
    -- the head of the default branch when it was opened
    base        TEXT NOT NULL,
    merged      TEXT,
    created     INTEGER NOT NULL,
    PRIMARY KEY (repo, num)
) WITHOUT ROWID;

PRAGMA user_version = 2;
