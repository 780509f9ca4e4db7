"""What is printed when the service is ready."""

from siglip_settings import ClientSettings

TEXT = """\
Ready: {name} at {address}

In another shell:
  siglip classify{option} photo.jpg --label "a cat" --label "a dog"
In Python:
  from siglip_client import Client
  with Client("{address}") as client:
      print(client.classify(["photo.jpg"], ["a cat", "a dog"])[0])

Stop with Ctrl-C."""


def welcome(address: str, model_name: str) -> str:
    """The address and how to call it."""
    option = "" if address == ClientSettings().address else f" --address {address}"
    return TEXT.format(name=model_name, address=address, option=option)
