"""A prompt as a product of operators, one for each token; their commutator measures how much the order matters.

Run it with `python examples/prompt_algebra.py`; it takes a few seconds.
"""

import torch

from ctxblocks import MLP, PlainBlock, create, dynamics, factorize, transfer


def main() -> None:
    """Factorise a prompt, compare the product with the total update, and print the learning dynamics."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    block = PlainBlock(create("linear-attention", width=6), MLP(6, 24))
    query, context = torch.randn(6), torch.randn(12, 6)

    factors = factorize(block, query, context)
    print("the output does not change while tokens are moved into the weights:")
    print("  largest change over all steps:", f"{(factors.outputs() - block(query, context)).abs().max():.1e}")

    total = transfer(block, query, context).operator
    weight = block.network.readers["up"].weight
    product = factors.product()
    gap = product.delta(weight).dense() - total.delta(weight).dense()
    read = block.contextualize(query, context[:0]).z
    print(f"the product has rank {torch.linalg.matrix_rank(product.delta(weight).dense())}, the total update rank 1;")
    print(f"  they differ by ‖K‖ = {gap.norm():.3f}, and K A(x) = {(gap @ read).norm():.1e}")

    first, last = factors.factor(1), factors.factor(12)
    print(f"‖[P_1, P_12]‖ = {first.commutator(last).norm():.4f}: the two operators do not commute")

    steps = dynamics(block, query, context)
    print("marginal change per token:", " ".join(f"{value:.3f}" for value in steps.marginal_norms()))
    change = steps.weight(5) - steps.weight(4)
    print(f"  W_5 − W_4 + h ∇L_4 = {(change + steps.step_size * steps.gradient(4).dense()).norm():.1e}")


if __name__ == "__main__":
    main()
