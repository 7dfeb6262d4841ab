"""The pre-norm block of the image side; timm's names of parameters, as published weights have them.

Written here: timm's import takes longer than a small job (it brings torchvision and torch's compiler).

`B` images, `L` tokens, `D` width, `H` heads.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6  # of the norms, that of the published weights


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other, from one projection to queries, keys and values.

    Args:
        width: D.
        heads: H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [B, L, D] of [B, L, D]."""
        parts = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1))  # [B, L, 3, H, D / H]
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each [B, H, L, D / H]
        return self.join(functional.scaled_dot_product_attention(query, key, value))

    def join(self, mixed: Tensor) -> Tensor:
        """Return [B, L, D], the heads' results [B, H, L, D / H] projected together."""
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Width -> hidden -> width with GELU.

    Args:
        width: D.
        hidden: between the two layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [B, L, D] of [B, L, D]."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return out


class ImageBlock(nn.Module):
    """Attention and a feed-forward layer, each after a norm and added to what it read (Dosovitskiy et al. 2021).

    Args:
        width: D.
        heads: H; they divide D.
        hidden: of the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [B, L, D] of [B, L, D]."""
        return self.feed(tokens + self.attn(self.norm1(tokens)))

    def feed(self, tokens: Tensor) -> Tensor:
        """Return [B, L, D], tokens [B, L, D] that attended with what the feed-forward layer adds."""
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out
