"""A context as a weight update: the theorem on one block, and the update written into a copy of the block.

Run it with `python examples/context_as_weights.py`; it takes a few seconds.
"""

import torch

from ctxblocks import MLP, PlainBlock, ResidualBlock, create, transfer


def main() -> None:
    """Compare the block with its context, with the update, and with the update in its weights."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    query, context = torch.randn(8), torch.randn(20, 8)  # (d,), (n, d)

    for name in ("self-attention", "lstm", "ssm"):
        layer, network = create(name, width=8), MLP(8, 32)
        for block in (PlainBlock(layer, network), ResidualBlock(layer, network, norm="pre")):
            update = transfer(block, query, context)
            with_context = block(query, context)
            with_update = block(query, update=update)
            merged = update.merged(block)(query)
            weight = network.up.weight
            print(
                f"{name:15} {block.kind():28} context changes the output by {(with_context - block(query)).norm():.3f}; "
                f"with the update it differs by {(with_context - with_update).abs().max():.1e}, "
                f"merged by {(with_context - merged).abs().max():.1e}; "
                f"‖ΔW‖/‖W‖ = {update.norm(weight) / weight.norm():.3f}, det P = {update.operator.det():.3f}"
            )


if __name__ == "__main__":
    main()
