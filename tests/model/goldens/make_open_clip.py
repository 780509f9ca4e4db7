"""Writes open_clip.npz: a tiny SigLIP of open_clip 3.3.0 with random weights, and what it computes.

Run it with a Python that has open_clip_torch, timm and torchvision; it imports nothing of this
project. Names under `state/` are open_clip's own.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torchvision_operators

HERE = Path(__file__).parent
CONFIG = {
    "embed_dim": 24,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "vit_base_patch16_siglip_224",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 60,
        "hf_tokenizer_name": "",
        "width": 24,
        "heads": 12,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}


def pixels() -> torch.Tensor:
    """[2, 3, 224, 224], from a formula that a test can repeat."""
    grid = torch.arange(2 * 3 * 224 * 224, dtype=torch.float64).reshape(2, 3, 224, 224)
    return torch.sin(grid * 0.37).float()


def main() -> None:
    library = torchvision_operators.declare()  # noqa: F841
    import open_clip
    import timm
    from open_clip.model import CustomTextCLIP

    original = timm.create_model
    timm.create_model = lambda *args, **options: original(*args, embed_dim=24, depth=2, **options)
    torch.manual_seed(0)
    rows = {
        "version": np.array(open_clip.__version__),
        "config": np.array(json.dumps(CONFIG)),
    }
    model = CustomTextCLIP(**CONFIG).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            spread = 0.1 if tensor.ndim < 2 else 0.7 * tensor[0].numel() ** -0.5
            tensor.normal_(0, spread).add_(float(tensor.ndim == 1 and name.endswith("weight")))
        model.logit_scale.fill_(3.0)
        model.logit_bias.fill_(-4.0)
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensor.half().float())  # stored in half the bytes, exactly
            rows[f"state/{name}"] = tensor.half().numpy()
        ids = torch.randint(0, 60, (3, 16))
        image, text = model.encode_image(pixels(), normalize=True), model.encode_text(ids, normalize=True)
        rows |= {"input_ids": ids.numpy(), "image_embeds": image.numpy(), "text_embeds": text.numpy()}
        rows["logits"] = (model.logit_scale.exp() * image @ text.T + model.logit_bias).numpy()
    np.savez_compressed(HERE / "open_clip.npz", **rows)


if __name__ == "__main__":
    main()
