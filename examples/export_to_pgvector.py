"""An embedded folder as a PostgreSQL table for pgvector.

    python -m examples.export_to_pgvector vectors/ | psql mydb
    python -m examples.export_to_pgvector vectors/ --url postgresql:///mydb   # needs: pip install psycopg

The vectors have length 1, so that `ORDER BY embedding <=> $1` finds what `siglip search` finds. Rows that
failed are left out.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from siglip_search import EmbeddedFolder, SearchError

# COPY reads a backslash, and what ends a column or a row, by these names.
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def main() -> int:
    arguments = parse_arguments()
    try:
        folder = EmbeddedFolder(arguments.folder)
        if arguments.url:
            write_directly(folder, arguments.table, arguments.url)
        else:
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            sys.stdout.writelines(script(folder, arguments.table))
    except SearchError as error:
        print(f"export failed: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder that `siglip embed` filled")
    parser.add_argument("--table", default="embeddings", help="table to fill, made if needed [%(default)s]")
    parser.add_argument("--url", help="database to write to; without it SQL is printed")
    return parser.parse_args()


def script(folder: EmbeddedFolder, table: str) -> Iterator[str]:
    """Input for psql, all or nothing."""
    yield "SET client_encoding TO 'UTF8';\nBEGIN;\n"
    yield from (f"{statement};\n" for statement in definitions(folder, table))
    yield f"{copy(table)};\n"
    yield from lines(folder)
    yield "\\.\nCOMMIT;\n"


def write_directly(folder: EmbeddedFolder, table: str, url: str) -> None:
    """All or nothing."""
    import psycopg

    try:
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            for statement in definitions(folder, table):
                cursor.execute(statement)
            with cursor.copy(copy(table)) as rows:
                for line in lines(folder):
                    rows.write(line)
    except psycopg.Error as error:
        sys.exit(f"export failed: {error}")


def definitions(folder: EmbeddedFolder, table: str) -> list[str]:
    return [
        "CREATE EXTENSION IF NOT EXISTS vector",
        f"CREATE TABLE IF NOT EXISTS {quoted(table)} (id text PRIMARY KEY, embedding vector({folder.dim}))",
    ]


def copy(table: str) -> str:
    return f"COPY {quoted(table)} (id, embedding) FROM STDIN"


def lines(folder: EmbeddedFolder) -> Iterator[str]:
    """A line for each row, in the text format of COPY."""
    for names, vectors in folder.items():
        for name, vector in zip(names, vectors.tolist(), strict=True):
            yield f"{name.translate(ESCAPES)}\t[{','.join(f'{number:.8g}' for number in vector)}]\n"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


if __name__ == "__main__":
    sys.exit(main())
