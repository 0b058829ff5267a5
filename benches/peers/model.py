"""A decoder-only Transformer: pre-norm blocks of attention and feed-forward, learned or rotary positions, GELU, biases, an output
layer of its own. Its training goes through blocks that torch.compile has compiled once for all of them."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)); dropout on both sums and on the attention's weights."""

    def __init__(self, features, heads, inner, dropout, rotary):
        super().__init__()
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.qkv, self.out = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, inner), nn.Linear(inner, features)

    def forward(self, x, turn):
        batch, length, features = x.shape
        dropout = self.dropout if self.training else 0.0
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.rotary:
            q, k = rotated(q, turn), rotated(k, turn)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(batch, length, features)), dropout)
        return x + F.dropout(self.down(F.dropout(F.gelu(self.up(self.norm2(x))), dropout)), dropout)


def rotated(x, turn):
    """Rotary positions (Su et al., arXiv 2104.09864): the halves of each head turned by the angles whose cos and sin are `turn`."""
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class Transformer(nn.Module):
    def __init__(self, vocabulary, length, features, layers, heads, inner, dropout=0.0, positions="learned"):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, features)
        self.positions = nn.Parameter(torch.zeros(length, features)) if positions == "learned" else None
        rotary = positions == "rotary"
        if not rotary and positions != "learned":
            raise ValueError(f"positions {positions!r}")
        self.blocks = nn.ModuleList(Block(features, heads, inner, dropout, rotary) for _ in range(layers))
        self.norm, self.head, self.dropout = nn.LayerNorm(features), nn.Linear(features, vocabulary), dropout
        half = features // heads // 2
        angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        # GPT-2's initial values: what is added to the residual is smaller the more blocks there are.
        for name, p in self.named_parameters():
            if p.dim() > 1:
                small = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if small else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        self.block_of_training, self.loss_of_training = Block.forward, self.loss_of

    def compile_training(self):
        """Compiles what training runs. The blocks share their code, so one is compiled for all."""
        self.block_of_training = torch.compile(Block.forward, dynamic=False)
        self.loss_of_training = torch.compile(self.loss_of, dynamic=False)

    def loss_of(self, x, labels, reduction="mean"):
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction=reduction)

    def forward(self, tokens, labels, reduction="mean"):
        """Cross-entropy of labels (batch, length), in nats."""
        length = tokens.shape[1]
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions[:length]
        if self.training:
            x = F.dropout(x, self.dropout)
        turn = self.cos[:length], self.sin[:length]
        run = self.block_of_training if self.training else Block.forward
        for block in self.blocks:
            x = run(block, x, turn)
        return (self.loss_of_training if self.training else self.loss_of)(x, labels, reduction)

    def count(self):
        return sum(p.numel() for p in self.parameters())
