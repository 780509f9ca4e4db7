"""Client code to start from. Needs a running service (`make serve`)."""

import sys

from siglip_client import Client


def main(address: str = "127.0.0.1:50051", picture: str = "samples/red-circle.jpg") -> None:
    with Client(address) as client:
        labels = ["a red circle", "a blue square", "two yellow stars"]
        for image in client.classify([picture], labels):
            for score in image:  # the most probable label first
                print(f"{score.probability:.3f}  {score.label}")

        images = client.embed_images([picture]).vectors  # float32 [1, dim], of length 1
        texts = client.embed_texts(labels).vectors  # float32 [3, dim]
        print("cosines:", images @ texts.T)


if __name__ == "__main__":
    main(*sys.argv[1:])
