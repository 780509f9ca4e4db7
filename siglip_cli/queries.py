"""What `siglip search` is asked, as vectors, and what it finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_cli import looking
from siglip_cli.calling import connected
from siglip_settings import ClientSettings

if TYPE_CHECKING:
    from siglip_client import ModelDescription
    from siglip_search import EmbeddedFolder, Hit


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
    """The answers, and the number of rows that failed.

    The service is called only for what is not in the folder. Raises CommandError, SearchError.
    """
    import numpy as np

    from siglip_search import search

    rows = folder.find(queries.ids) if queries.ids else []
    vectors = [folder.vectors(rows)] if rows else []
    served = None
    if queries.texts or queries.files:
        with connected(settings) as client:
            served = client.get_model()
            looking.refuse_other_model(folder, served, settings.address)
            if queries.files:
                vectors.insert(0, looking.embed_files(client, queries.files, served.limits.max_image_bytes))
            if queries.texts:
                vectors.insert(0, looking.embed_texts(client, queries.texts))
    # A row is nearest to itself: one more is asked for, and it is left out.
    found = search(folder, np.concatenate(vectors), top_k + bool(rows))
    names = [*queries.texts, *queries.files, *queries.ids]
    kinds = ["texts"] * len(queries.texts) + ["images"] * len(queries.files) + [folder.kind] * len(rows)
    itself = [-1] * (len(names) - len(rows)) + [row.number for row in rows]
    answers = []
    for name, kind, own, hits in zip(names, kinds, itself, found.hits, strict=True):
        others = [hit for hit in hits if hit.number != own][:top_k]
        answers.append(Answer(name, others, _probabilities(others, kind != folder.kind, served)))
    return answers, found.failed


def _probabilities(
    hits: Sequence["Hit"], differ: bool, served: "ModelDescription | None"
) -> list[float | None]:
    if served is None or not differ:
        return [None] * len(hits)
    return [looking.probability(served, hit.cosine) for hit in hits]
