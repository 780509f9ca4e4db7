"""torchvision imports beside a torch that its compiled part does not fit: no operator of it is called."""

import torch

NAMES = "nms qnms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d _roi_align_backward "
NAMES += "_roi_pool_backward _ps_roi_align_backward _ps_roi_pool_backward _deform_conv2d_backward"


def declare() -> torch.library.Library:
    """They exist as long as what is returned."""
    library = torch.library.Library("torchvision", "DEF")
    for name in NAMES.split():
        library.define(f"{name}(Tensor a) -> Tensor")
    return library
