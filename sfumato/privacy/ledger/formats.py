"""The tables of a ledger file, by format, and how an older file becomes one of the newest.

To add a table before the next release: one more statement in `_SINCE_2`; fresh files and upgraded
ones get it alike. A table whose content decides something needs a digest of it in a row (as OPEN
rows name the images of `record`): rows alone are authenticated.
"""

from __future__ import annotations

import sqlite3

NEWEST = 2
_FORMAT_1 = (
    (
        "CREATE TABLE entry (seq INTEGER PRIMARY KEY, prev_hash TEXT NOT NULL, kind TEXT NOT NULL,"
        " run_id TEXT NOT NULL, attempt INTEGER, utc TEXT NOT NULL, body TEXT NOT NULL, hash TEXT"
        " NOT NULL)"
    ),
    (
        "CREATE TABLE record (hmac BLOB NOT NULL, copies INTEGER NOT NULL, dataset TEXT NOT NULL, "
        "PRIMARY KEY (hmac, dataset)) WITHOUT ROWID"
    ),
    (
        "CREATE TRIGGER entry_kept BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT,"
        " 'append-only'); END"
    ),
    (
        "CREATE TRIGGER entry_fixed BEFORE UPDATE ON entry BEGIN SELECT RAISE(ABORT,"
        " 'append-only'); END"
    ),
)
_SINCE_2 = (
    # Beside each entry: its code under the ledger's key, and the time, which is the owner's alone
    # (`Row.written`).
    "CREATE TABLE seal (seq INTEGER PRIMARY KEY, mac BLOB NOT NULL, written TEXT NOT NULL)",
    # A program that knows only format 1 and has the file open cannot add rows without codes.
    (
        "CREATE TRIGGER entry_sealed BEFORE INSERT ON entry WHEN NOT EXISTS (SELECT 1 FROM seal"
        " WHERE seq = NEW.seq) BEGIN SELECT RAISE(ABORT, 'a newer sfumato has upgraded this"
        " ledger'); END"
    ),
    "CREATE TRIGGER seal_kept BEFORE DELETE ON seal BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER seal_fixed BEFORE UPDATE ON seal BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    # Of each image in a listing: keyed hashes of its pixels, of its file's bytes and of its unit's
    # value; OPEN rows name the listings.
    (
        "CREATE TABLE trace (listing TEXT NOT NULL, picture BLOB NOT NULL, file BLOB NOT NULL, unit"
        " BLOB NOT NULL, PRIMARY KEY (listing, picture, file, unit)) WITHOUT ROWID"
    ),
    "CREATE INDEX trace_file ON trace (file) WHERE file != x''",
    "CREATE INDEX trace_unit ON trace (unit) WHERE unit != x''",
    # Public images and charged captions (`public.PublicInputs`), in sets that PUBLIC and CHARGE
    # rows name by a digest.
    (
        "CREATE TABLE known (hmac BLOB NOT NULL, part TEXT NOT NULL, PRIMARY KEY (hmac, part))"
        " WITHOUT ROWID"
    ),
)
SCHEMAS = {1: _FORMAT_1, 2: _FORMAT_1 + _SINCE_2}


def format_of(db: sqlite3.Connection) -> int | None:
    """Returns the format of the tables in a file.

    0 for an empty file; None if it is no ledger, was altered, or is of a later sfumato.
    """
    found = sorted(
        text for (text,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    )
    return next(
        (number for number, texts in {0: (), **SCHEMAS}.items() if found == sorted(texts)), None
    )


def make_tables(db: sqlite3.Connection, found: int) -> None:
    """The tables of the newest format that format `found` lacks; inside a transaction."""
    for text in SCHEMAS[NEWEST][len(SCHEMAS.get(found, ())) :]:
        db.execute(text)
