"""MovieLens-100k (Harper & Konstan 2015) as event tables, read out of PyPI's `recbole` wheel, which is never installed.

Every rating is an impression of the film; a rating of at least 4 is a click. The films that a user rated in the same
second are one slate. Codes are fixed: they depend on the files alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate_components.events.tables import BadEventsError
from tidegate_components.storage import cache_folder, file_digest, replacing

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CLICK_RATING", "fetch_movielens", "movielens_tables"]

CLICK_RATING = 4
_PACKAGE = "recbole==1.2.1"
_INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
_FILES = {
    "inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}


def fetch_movielens() -> Path:
    """The folder with ml-100k.inter, .item and .user: from the cache where their content is right, else from PyPI.

    Raises BadEventsError where PyPI cannot be reached or gives other content than expected.
    """
    folder = cache_folder() / "movielens-100k"
    if not _is_whole(folder):
        with replacing(folder) as beside:
            _download(beside)
        if not _is_whole(folder):
            raise _unreachable("files with another content", "the files of recbole 1.2.1")
    return folder


def _is_whole(folder: Path) -> bool:
    files = {suffix: folder / f"ml-100k.{suffix}" for suffix in _FILES}
    return all(path.is_file() and file_digest(path) == _FILES[suffix] for suffix, path in files.items())


def _download(into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", _PACKAGE]
    into.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as wheels:
        done = subprocess.run([*command, "-d", wheels], capture_output=True, text=True, check=False)
        wheel = next(Path(wheels).glob("*.whl"), None)
        if done.returncode or wheel is None:
            raise _unreachable((done.stderr.strip().splitlines() or ["no answer"])[-1], "a download of " + _PACKAGE)
        with zipfile.ZipFile(wheel) as archive:
            for suffix in _FILES:
                (into / f"ml-100k.{suffix}").write_bytes(archive.read(f"{_INSIDE}.{suffix}"))


def _unreachable(value: str, expected: str) -> BadEventsError:
    return BadEventsError(
        resource="data set movielens-100k",
        field="PyPI package recbole",
        value=value,
        expected=expected,
        remedy="check the network or pip's index, or pass data=FOLDER with event tables",
    )


def movielens_tables(folder: Path, newest: datetime | None = None) -> dict[str, pa.Table]:
    """The event tables of `events.tables` from the three text files.

    `newest` moves all times by one constant so that the last event falls on it (a demo's log ends today, not in 1998).
    """
    import duckdb

    with duckdb.connect() as db:
        for suffix in _FILES:
            path = folder / f"ml-100k.{suffix}"
            read = f"CREATE TABLE raw_{suffix} AS SELECT * FROM read_csv(?, delim='\t', all_varchar=true)"
            db.execute(read, [str(path)])
        db.execute(_RATED, [int(newest.timestamp() * 1_000_000) if newest else None])
        return {name: db.sql(query).to_arrow_table() for name, query in _QUERIES.items()}


_RATED = """
CREATE TABLE rated AS
WITH genres AS (
    SELECT genre, row_number() OVER (ORDER BY genre) AS code
    FROM (SELECT DISTINCT unnest(string_split("class:token_seq", ' ')) AS genre FROM raw_item)
),
occupations AS (
    SELECT occupation, row_number() OVER (ORDER BY occupation) AS code
    FROM (SELECT DISTINCT "occupation:token" AS occupation FROM raw_user)
),
slots AS (
    SELECT item, list(code ORDER BY code) AS codes
    FROM (SELECT "item_id:token" AS item, unnest(string_split("class:token_seq", ' ')) AS genre FROM raw_item)
    JOIN genres USING (genre) GROUP BY item
),
moved AS (SELECT coalesce(?::BIGINT - max("timestamp:float"::BIGINT) * 1000000, 0) AS micros FROM raw_inter)
SELECT
    r."user_id:token" || '-' || r."timestamp:float" AS request_id,
    r."item_id:token"::BIGINT AS item_id,
    r."user_id:token"::BIGINT AS user_id,
    make_timestamp(r."timestamp:float"::BIGINT * 1000000 + moved.micros) AS event_time,
    r."rating:float"::DOUBLE AS rating,
    u."age:token"::BIGINT AS age,
    CASE u."gender:token" WHEN 'F' THEN 1 WHEN 'M' THEN 2 ELSE 0 END::BIGINT AS gender,
    o.code::BIGINT AS occupation,
    coalesce(try_cast(i."release_year:token" AS BIGINT), 0) AS release_year,
    coalesce(s.codes[1], 0)::BIGINT AS genre_1, coalesce(s.codes[2], 0)::BIGINT AS genre_2,
    coalesce(s.codes[3], 0)::BIGINT AS genre_3, coalesce(s.codes[4], 0)::BIGINT AS genre_4,
    coalesce(s.codes[5], 0)::BIGINT AS genre_5, coalesce(s.codes[6], 0)::BIGINT AS genre_6
FROM raw_inter r CROSS JOIN moved
JOIN raw_user u ON u."user_id:token" = r."user_id:token"
JOIN occupations o ON o.occupation = u."occupation:token"
JOIN raw_item i ON i."item_id:token" = r."item_id:token"
JOIN slots s ON s.item = i."item_id:token"
"""

_ORDER = "ORDER BY event_time, user_id, item_id"
_QUERIES = {
    "impressions": f"SELECT * EXCLUDE (rating) FROM rated {_ORDER}",
    "clicks": f"SELECT request_id, item_id, event_time FROM rated WHERE rating >= {CLICK_RATING} {_ORDER}",
    "ratings": f"SELECT request_id, item_id, user_id, event_time, rating FROM rated {_ORDER}",
    "interactions": f"""
        SELECT user_id, item_id, event_time, 'impression' AS behavior, NULL::DOUBLE AS rating FROM rated
        UNION ALL SELECT user_id, item_id, event_time, 'rating', rating FROM rated
        UNION ALL SELECT user_id, item_id, event_time, 'click', NULL FROM rated WHERE rating >= {CLICK_RATING}
        {_ORDER}, behavior""",
}
