"""The dtypes in which layers are checked, and how torch reports an operation that a device lacks in one of them."""

import torch

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
MISSING = "not implemented for '"
"""Part of torch's message; the name of the scalar type follows, such as `Half'` for float16."""
