"""Largest error ratios of kernels that multiply tiles; knows no kernel."""

import torch

FP32 = 3e-3 if torch.cuda.is_available() else 2e-6
"""Of fp32 inputs: a GPU multiplies them in TF32."""
BF16 = 6e-3
"""Of an output in bf16 from inputs in bf16; Triton's interpreter truncates it."""
FP32_OF_BF16 = 1e-5
"""Of a sum in fp32 whose terms are products of bf16 inputs: those are exact."""
EXPANDED_BF16 = 2e-2
"""Where keys and values are themselves rounded products."""
EXTREME = 0.1 if torch.cuda.is_available() else 1e-4
"""Of fp32 inputs with logits up to a hundred: an error of a logit is that of its weight."""
