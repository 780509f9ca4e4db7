"""What a program loads when it imports a part: never torch for the parts that serve without it."""

import subprocess
import sys

import pytest

import siglip_model

TORCH_FREE = [
    "siglip_model",
    "siglip_model.batch",
    "siglip_model.config",
    "siglip_model.files",
    "siglip_model.fingerprint",
    "siglip_model.hub",
    "siglip_model.image_decoding",
    "siglip_model.image_download",
    "siglip_model.image_loading",
    "siglip_model.image_processing",
    "siglip_model.processor",
    "siglip_model.scoring",
    "siglip_model.siglip2.config",
    "siglip_model.siglip2.image_processor",
    "siglip_model.siglip2.processor",
    "siglip_model.siglip2.tokenizer",
    "siglip_model.tokenizer",
]


def test_no_torch_where_none_is_needed() -> None:
    imports = ", ".join(TORCH_FREE)
    program = f"import sys, {imports}; print(sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_itself_loads_almost_nothing() -> None:
    program = "import sys, siglip_model; print(sorted({'numpy', 'PIL', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert dir(siglip_model) == sorted(siglip_model.__all__)
    for name in siglip_model.__all__:
        assert getattr(siglip_model, name).__name__ == name
    assert siglip_model._HOMES.keys() == set(siglip_model.__all__)
    with pytest.raises(AttributeError, match="no attribute 'SiglipTower'"):
        _ = siglip_model.SiglipTower
