"""The vision tower of NaFlex: patches of any grid, with positions stretched to it.

Shapes: B batch, S patches (padding included), D width, p patch size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siglip_model.attention import prepare_mask
from siglip_model.layers import Encoder, PoolingHead
from siglip_model.outputs import TowerOutput
from siglip_model.siglip2.config import Siglip2VisionConfig


class NaFlexTransformer(nn.Module):
    def __init__(self, config: Siglip2VisionConfig, attn_implementation: str) -> None:
        super().__init__()
        self.embeddings = NaFlexEmbeddings(config)
        self.encoder = Encoder(config, attn_implementation)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.head = PoolingHead(config) if config.vision_use_head else None

    def forward(
        self,
        pixel_values: Tensor | None,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> TowerOutput:
        """Patches [B, S, 3pp], 1 for each real one [B, S], rows and columns of patches [B, 2]."""
        output = self.patches(
            pixel_values, pixel_attention_mask, spatial_shapes, output_attentions, output_hidden_states
        )
        if self.head is not None:
            x = output.last_hidden_state
            output.pooler_output = self.head(x, self._mask(x, pixel_attention_mask))
        return output

    def patches(
        self,
        pixel_values: Tensor | None,
        pixel_attention_mask: Tensor | None,
        spatial_shapes: Tensor | None,
        output_attentions: bool = False,
        output_hidden_states: bool = False,
    ) -> TowerOutput:
        """All but the pooled vector: what a classifier of its own needs."""
        if pixel_values is None or spatial_shapes is None:
            raise ValueError("You have to specify pixel_values and spatial_shapes")
        x = self.embeddings(pixel_values, spatial_shapes)  # [B, S, D]
        mask = self._mask(x, pixel_attention_mask)
        x, states, attentions = self.encoder(x, mask, output_attentions, output_hidden_states)
        return TowerOutput(self.post_layernorm(x), None, states, attentions)

    def _mask(self, x: Tensor, pixel_attention_mask: Tensor | None) -> Tensor | None:
        return prepare_mask(pixel_attention_mask, x.dtype, self.encoder.implementation)


class NaFlexEmbeddings(nn.Module):
    def __init__(self, config: Siglip2VisionConfig) -> None:
        super().__init__()
        self.side = int(config.num_patches**0.5)
        if self.side**2 != config.num_patches:
            raise ValueError(f"num_patches is {config.num_patches} and must be a square number")
        width = config.hidden_size
        self.patch_embedding = nn.Linear(config.num_channels * config.patch_size**2, width)
        self.position_embedding = nn.Embedding(config.num_patches, width)

    def forward(self, pixel_values: Tensor, spatial_shapes: Tensor) -> Tensor:
        numbers = self.patch_embedding.in_features
        if pixel_values.ndim != 3 or pixel_values.shape[-1] != numbers:
            raise ValueError(f"pixel_values are {list(pixel_values.shape)} and must be [B, S, {numbers}]")
        if spatial_shapes.shape != (len(pixel_values), 2):
            raise ValueError(
                f"spatial_shapes are {list(spatial_shapes.shape)} and must be [{len(pixel_values)}, 2]"
            )
        patches: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        grids = [(rows, columns) for rows, columns in spatial_shapes.tolist()]
        return patches + self.positions(grids, patches.shape[1])

    def positions(self, grids: Sequence[tuple[int, int]], length: int) -> Tensor:
        """The learned positions stretched to each image's grid: [B, S, D]."""
        stretched = {(rows, columns): self._stretched(rows, columns, length) for rows, columns in set(grids)}
        return torch.stack([stretched[grid] for grid in grids])

    def _stretched(self, rows: int, columns: int, length: int) -> Tensor:
        """[S, D] for one grid. Padding has the first patch's position, as in the reference.

        Always in float32, as the reference does on a CPU, where half precision has no antialiasing.
        """
        if min(rows, columns) < 1 or rows * columns > length:
            raise ValueError(
                f"spatial_shapes name a grid of {rows} x {columns}, pixel_values have {length} patches"
            )
        learned = self.position_embedding.weight
        square = learned.float().t().reshape(1, -1, self.side, self.side)  # [1, D, side, side]
        # Contiguous: with channels last PyTorch 2.13 on a CPU gives wrong numbers for a single column.
        square = square.contiguous()
        grid = F.interpolate(square, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
        real = grid.flatten(2)[0].t().to(learned.dtype)  # [rows * columns, D]
        return torch.cat([real, real[:1].expand(length - len(real), -1)])
