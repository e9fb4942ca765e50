"""A fingerprint of a model's weights, which tells a model from another of the same type."""

import hashlib

import torch
from torch import nn

SAMPLE = 1024
"""Entries of each parameter that count, evenly spread."""


def fingerprint(model: nn.Module) -> str:
    """A digest of the names, shapes and dtypes of all parameters and of some entries of each.

    Training changes every entry of what it trains, so that a sample tells; offloaded parameters count by name and shape.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        if parameter.device.type != "meta" and parameter.numel():
            entries = parameter.detach().reshape(-1)
            chosen = entries[:: max(1, len(entries) // SAMPLE)][:SAMPLE].contiguous()
            digest.update(chosen.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
