"""What `siglip search` is asked, as vectors, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_cli import looking
from siglip_cli.calling import connected
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_cli.looking import Vectors
    from siglip_client import ModelDescription
    from siglip_search import EmbeddedFolder, Hit
    from siglip_search.folder import Kind


@dataclass(frozen=True, slots=True)
class Queries:
    """Texts, names of image files, and ids of rows of the folder; answered in this order."""

    texts: Sequence[str]
    files: Sequence[str]
    ids: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.texts or self.files or self.ids)


@dataclass(frozen=True, slots=True)
class Answer:
    """One query and its hits, the best first; probabilities only where a text meets an image."""

    query: str
    hits: Sequence["Hit"]
    probabilities: Sequence[float | None]


def answer(
    settings: ClientSettings, folder: "EmbeddedFolder", queries: Queries, top_k: int
) -> tuple[list[Answer], int]:
    """The answers, and the number of rows that failed. Raises CommandError, SearchError."""
    import numpy as np

    from siglip_search import search

    rows = folder.find(queries.ids)
    served, vectors = _embedded(settings, folder, queries)
    if rows:
        vectors.append(folder.vectors(rows))
    # A row is nearest to itself: one more is asked for, and it is left out.
    found = search(folder, np.concatenate(vectors), top_k + bool(rows))
    asked: list[tuple[str, Kind, int | None]] = [
        *((text, "texts", None) for text in queries.texts),
        *((file, "images", None) for file in queries.files),
        *((row.id, folder.kind, row.number) for row in rows),
    ]
    answers = []
    for (name, kind, own), hits in zip(asked, found.hits, strict=True):
        others = [hit for hit in hits if hit.number != own][:top_k]
        answers.append(Answer(name, others, _probabilities(others, kind != folder.kind, served)))
    return answers, found.failed


def _embedded(
    settings: ClientSettings, folder: "EmbeddedFolder", queries: Queries
) -> tuple["ModelDescription | None", list["Vectors"]]:
    """Vectors of texts and files, and the model that made them; none is called where there are none."""
    if not (queries.texts or queries.files):
        return None, []
    vectors = []
    with connected(settings) as client:
        served = client.get_model()
        looking.refuse_other_model(folder, served, settings.address)
        if queries.texts:
            vectors.append(looking.embed_texts(client, queries.texts))
        if queries.files:
            vectors.append(looking.embed_files(client, queries.files, served.limits.max_image_bytes))
    return served, vectors


def _probabilities(
    hits: Sequence["Hit"], differ: bool, served: "ModelDescription | None"
) -> list[float | None]:
    if served is None or not differ:
        return [None] * len(hits)
    return [looking.probability(served, hit.cosine) for hit in hits]
