"""Looks through folders that `siglip embed` filled: exact search, near-duplicates, contact sheets.

    from siglip_search import EmbeddedFolder, search

    folder = EmbeddedFolder("vectors/")
    found = search(folder, queries, top_k=10)  # queries: float32 [n, dim]
    for hit in found.hits[0]:
        print(hit.cosine, hit.id)

Needs numpy, and pyarrow where the folder is Parquet. Memory stays small however many rows there are.
"""

from siglip_search.duplicates import Duplicates, Group, Member, near_duplicates
from siglip_search.errors import SearchError
from siglip_search.folder import EmbeddedFolder, Row
from siglip_search.ranking import Found, Hit, search

__all__ = [
    "Duplicates",
    "EmbeddedFolder",
    "Found",
    "Group",
    "Hit",
    "Member",
    "Row",
    "SearchError",
    "near_duplicates",
    "search",
]
