"""Everything that a user of the Python client needs once: python example.py [ADDRESS [PICTURE]]."""

import sys
from collections.abc import Iterator
from pathlib import Path

from siglip_client import Client, InvalidRequest, ItemErrors, SiglipError, TextItem

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "red-circle.jpg"
LABELS = ["a red circle", "a blue square", "two yellow stars"]
ITEMS = 1000


def main(address: str = "127.0.0.1:50051", picture: str = str(SAMPLE)) -> None:
    with Client(address) as client:
        embed(client, picture)
        classify(client, picture)
        show_errors(client, picture)
        stream(client)


def embed(client: Client, picture: str) -> None:
    images = client.embed_images([picture]).vectors  # float32 [1, dim], of length 1
    texts = client.embed_texts(LABELS, dtype="f16").vectors  # float32 [3, dim]; half the bytes on the way
    print("cosines:", (images @ texts.T)[0].round(3))


def classify(client: Client, picture: str) -> None:
    [image] = client.classify([picture], LABELS)
    for score in image:  # the most probable label first
        print(f"{score.probability:.3f}  {score.label}")


def show_errors(client: Client, picture: str) -> None:
    """A call that breaks a rule has no result; a bad item has none, and its neighbours have."""
    try:
        client.embed_texts([])
    except InvalidRequest as error:
        violations = [f"{each.field}: {each.description}" for each in error.violations]
        print(error.code.name, error.reason, violations)
    try:
        client.embed_images([picture, b"not a picture"])
    except ItemErrors as error:
        for item in error.errors:
            print(f"item {item.index}:", item.code.name, item.reason, item.message)
        print("the others:", error.result.vectors[:1].shape)


def stream(client: Client) -> None:
    """Any number of items, no more on the way than the service allows; through restarts of it."""
    items: Iterator[TextItem] = (TextItem(number, f"picture number {number}") for number in range(ITEMS))
    vectors = {result.key: result.vector for result in client.embed_stream(items)}
    print(len(vectors), "results")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SiglipError as error:
        sys.exit(str(error))
