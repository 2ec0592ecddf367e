"""The tables of `daemon.sqlite`, as the numbered migrations that make them."""

from daemon.events.inbox import EVENT_TABLES
from daemon.events.letters import LETTERS_BY_NUMBER
from daemon.store.origins import ORIGIN_TABLES

JOB_TABLES = """
CREATE TABLE jobs (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    proposal INTEGER NOT NULL,
    run INTEGER NOT NULL,
    data TEXT NOT NULL CHECK (data IN ('raw', 'proc', 'all')),
    variables TEXT,
    match TEXT NOT NULL,
    cluster INTEGER NOT NULL,
    mock INTEGER NOT NULL,
    backend TEXT NOT NULL,
    inputs TEXT NOT NULL,
    after TEXT,
    source TEXT NOT NULL,
    live INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    waiting_reason TEXT NOT NULL DEFAULT '',
    not_before REAL NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    combined INTEGER NOT NULL DEFAULT 0,
    cleaned INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX queued_jobs ON jobs (live, position) WHERE state = 'queued';
CREATE INDEX jobs_of_a_run ON jobs (proposal, run, state);
CREATE INDEX jobs_by_state ON jobs (state);
CREATE INDEX jobs_that_follow ON jobs (after) WHERE after IS NOT NULL;
CREATE INDEX jobs_to_combine ON jobs (ended) WHERE combined = 0;
CREATE INDEX jobs_to_clean ON jobs (position) WHERE combined = 1 AND cleaned = 0;
CREATE TABLE attempts (
    job TEXT NOT NULL,
    number INTEGER NOT NULL,
    handle TEXT,
    dispatched REAL NOT NULL,
    ended REAL,
    outcome TEXT,
    offsets TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, number)
);
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    was TEXT NOT NULL,
    became TEXT NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL
);
CREATE INDEX history_of_a_job ON history (job, id);
"""

PARAMS = """
ALTER TABLE jobs ADD COLUMN params TEXT NOT NULL DEFAULT '{}';
"""

ACTS = """
ALTER TABLE history ADD COLUMN by TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN first_attempt INTEGER NOT NULL DEFAULT 1;
CREATE INDEX due_jobs ON jobs (not_before) WHERE state = 'queued';
"""

BACKENDS = """
ALTER TABLE jobs ADD COLUMN part TEXT NOT NULL DEFAULT '';
UPDATE jobs SET part = 'cluster' WHERE cluster = 1;
ALTER TABLE jobs ADD COLUMN command TEXT;
CREATE INDEX queued_by_backend ON jobs (backend, live, position) WHERE state = 'queued';
"""

MIGRATIONS = (EVENT_TABLES + JOB_TABLES, PARAMS, ORIGIN_TABLES, ACTS, BACKENDS, LETTERS_BY_NUMBER)
