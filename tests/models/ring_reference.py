"""Ring-2.5 written plainly, in fp32: a whole prompt at once, without a cache. Shares no code with the product."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class RingReference:
    """The model of a published config and of tensors by their published names."""

    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    def __call__(self, ids: list[int]) -> Tensor:
        """Logits [T, vocab]."""
        x = self.weights["model.word_embeddings.weight"][ids]
        for i in range(self.config["num_hidden_layers"]):
            at = f"model.layers.{i}."
            x = x + self._attention(i, at + "attention.", self._norm(x, at + "input_layernorm"))
            x = x + self._mlp(i, at + "mlp.", self._norm(x, at + "post_attention_layernorm"))
        return self._project(self._norm(x, "model.norm"), "lm_head")

    def _project(self, x: Tensor, name: str) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return rms(x, self.config["rms_norm_eps"]) * self.weights[f"{name}.weight"]

    def _attention(self, layer: int, at: str, x: Tensor) -> Tensor:
        layers, group = self.config["num_hidden_layers"], self.config["layer_group_size"]
        full = (layer + 1) % group == 0 or layer >= layers // group * group
        return self._latent(at, x) if full else self._lightning(layer, at, x)

    def _lightning(self, layer: int, at: str, x: Tensor) -> Tensor:
        tokens, heads, size = x.shape[0], self.config["num_attention_heads"], self.config["head_dim"]
        q, k, v = self._project(x, at + "query_key_value").view(tokens, 3, heads, size).unbind(1)
        dims, theta = int(size * self.config["partial_rotary_factor"]), self.config["rope_theta"]
        q = rotate_halves(self._norm(q, at + "query_layernorm"), dims, theta)
        k = rotate_halves(self._norm(k, at + "key_layernorm"), dims, theta)
        depth = 1 - (layer - 1) / (self.config["num_hidden_layers"] - 1) + 1e-5
        keep = torch.exp(-torch.tensor(slopes(heads)) * depth)[:, None, None]
        state, rows = torch.zeros(heads, size, size), []
        for t in range(tokens):
            state = keep * state + k[t][:, :, None] * v[t][:, None, :]
            rows.append(torch.einsum("hk,hkv->hv", q[t] * size**-0.5, state))
        groups = torch.stack(rows).view(tokens, self.config["group_norm_size"], -1)
        out = rms(groups, self.config["rms_norm_eps"]).view(tokens, -1) * self.weights[at + "g_norm.weight"]
        return self._project(out * torch.sigmoid(self._project(x, at + "g_proj")), at + "dense")

    def _latent(self, at: str, x: Tensor) -> Tensor:
        config, tokens = self.config, x.shape[0]
        heads, nope, rope = config["num_attention_heads"], config["qk_nope_head_dim"], config["qk_rope_head_dim"]
        q = self._queries(at, x).view(tokens, heads, nope + rope)
        latent, k_rope = torch.split(
            self._project(x, at + "kv_a_proj_with_mqa"), [config["kv_lora_rank"], rope], dim=-1
        )
        expanded = self._project(self._norm(latent, at + "kv_a_layernorm"), at + "kv_b_proj").view(tokens, heads, -1)
        k_nope, v = torch.split(expanded, [nope, config["v_head_dim"]], dim=-1)
        theta = config["rope_theta"]
        scores = torch.einsum("thd,lhd->htl", q[..., :nope], k_nope)
        scores += torch.einsum(
            "thd,ld->htl", rotate_pairs(q[..., nope:], theta), rotate_pairs(k_rope[:, None], theta)[:, 0]
        )
        future = torch.ones(tokens, tokens).triu(1).bool()
        weights = (scores * (nope + rope) ** -0.5).masked_fill(future, -torch.inf).softmax(-1)
        return self._project(torch.einsum("htl,lhv->thv", weights, v).flatten(1), at + "dense")

    def _queries(self, at: str, x: Tensor) -> Tensor:
        if self.config["q_lora_rank"] is None:
            return self._project(x, at + "q_proj")
        return self._project(self._norm(self._project(x, at + "q_a_proj"), at + "q_a_layernorm"), at + "q_b_proj")

    def _mlp(self, layer: int, at: str, x: Tensor) -> Tensor:
        if layer < self.config["first_k_dense_replace"]:
            return self._swiglu(at, x)
        out = self._swiglu(at + "shared_experts.", x)
        weights = self._expert_weights(at, x)
        for e in range(self.config["num_experts"]):
            out = out + weights[:, e, None] * self._swiglu(f"{at}experts.{e}.", x)
        return out

    def _expert_weights(self, at: str, x: Tensor) -> Tensor:
        """[T, experts], 0 where an expert is not chosen; a group counts by its two best experts."""
        config = self.config
        scores = self._project(x, at + "gate").sigmoid()
        swayed = scores + self.weights[at + "gate.expert_bias"]
        grouped = swayed.view(len(x), config["n_group"], -1)
        best = grouped.topk(2, dim=-1).values.sum(-1).topk(config["topk_group"], dim=-1).indices
        barred = torch.ones(len(x), config["n_group"]).scatter(1, best, 0).bool()
        allowed = grouped.masked_fill(barred[..., None], -torch.inf).flatten(1)
        chosen = torch.zeros_like(scores).scatter(1, allowed.topk(config["num_experts_per_tok"], dim=-1).indices, 1)
        kept: Tensor = scores * chosen
        scaling: float = config["routed_scaling_factor"]
        return kept / kept.sum(-1, keepdim=True) * scaling

    def _swiglu(self, at: str, x: Tensor) -> Tensor:
        gate, up = self._project(x, at + "gate_proj"), self._project(x, at + "up_proj")
        return self._project(functional.silu(gate) * up, at + "down_proj")


def rms(x: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def slopes(heads: int) -> list[float]:
    """The published recursion: a geometric series, and every second slope of the next power of two's."""
    if math.log2(heads).is_integer():
        start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [start * start**i for i in range(heads)]
    power = 2 ** math.floor(math.log2(heads))
    return slopes(power) + slopes(2 * power)[0::2][: heads - power]


def angles(tokens: int, dims: int, theta: float) -> Tensor:
    """[T, 1, dims / 2]"""
    frequencies = theta ** (-torch.arange(0, dims, 2).float() / dims)
    return (torch.arange(tokens).float()[:, None] * frequencies)[:, None]


def rotate_halves(x: Tensor, dims: int, theta: float) -> Tensor:
    """[T, H, D]: entry i turns with entry i + dims / 2, and what is past `dims` stays."""
    turn = torch.polar(torch.ones(1), angles(len(x), dims, theta))
    first, second, rest = torch.split(x, [dims // 2, dims // 2, x.shape[-1] - dims], dim=-1)
    turned = torch.complex(first, second) * turn
    return torch.cat([turned.real, turned.imag, rest], dim=-1)


def rotate_pairs(x: Tensor, theta: float) -> Tensor:
    """[T, H, D]: entry 2i turns with entry 2i + 1. Evens come before odds in the result, which no product sees."""
    turned = torch.complex(x[..., 0::2], x[..., 1::2]) * torch.polar(torch.ones(1), angles(len(x), x.shape[-1], theta))
    return torch.cat([turned.real, turned.imag], dim=-1)
