"""Peak memory, bytes and operations of calls with known numbers."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from bench_fakes import CPU
from torch import Tensor, nn

from ctxblocks.bench.counting import StorageCounter, Work, count_work

KIB = 1024  # bytes of 256 float32


def count(function: Callable[[], object]) -> Work:
    return count_work(function, CPU)


def ones() -> Tensor:
    return torch.ones(256)


def test_a_chain_of_temporaries_holds_two_at_once() -> None:
    """The input of each operation is freed as soon as its output exists."""
    x = ones()
    assert count(lambda: (((x + 1) * 2) - 3) / 4).memory == 2 * KIB


def test_results_count() -> None:
    """Four storages that are all kept count as four."""
    x = ones()
    assert count(lambda: [x + i for i in range(4)]).memory == 4 * KIB


def test_existing_storages_do_not_count() -> None:
    """Neither inputs, nor views of them, nor writes into them count."""
    x = torch.ones(256, 1)
    assert count(lambda: (x.view(16, 16).t(), x.squeeze(1)[3:], x.add_(1))).memory == 0


def test_views_count_once() -> None:
    """A storage and its views count once, as long as one of them is alive."""
    x = ones()

    def views() -> Tensor:
        return (x + 1).view(16, 16).t()[2:]

    assert count(views).memory == KIB


def test_freed_storages_do_not_count() -> None:
    """Of 1000 consecutive storages, two are alive at once: the old one while the new one is created."""
    x = ones()

    def renewed() -> None:
        for _ in range(1000):
            y = x + 1
        del y

    assert count(renewed).memory == 2 * KIB
    with StorageCounter() as storages:
        y = x + 1
        assert storages.alive == KIB
        del y
        assert storages.alive == 0
    assert storages.peak == KIB


def test_a_storage_that_grows_counts_with_its_new_size() -> None:
    """An operation with `out=` resizes it in place."""
    small, x = torch.empty(0), ones()

    def grown() -> Tensor:
        mine = small + 0
        return torch.add(x, 1, out=mine)

    assert count(grown).memory == KIB


def test_a_product_has_its_operations_and_bytes() -> None:
    """There are `2 · 4 · 8 · 16` operations; both factors are read and the product is written."""
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    work = count(lambda: a @ b)
    assert work.flops == 2 * 4 * 8 * 16
    assert work.moved == 4 * (4 * 8 + 8 * 16 + 4 * 16)
    assert work.memory == 4 * 4 * 16


@pytest.mark.parametrize(
    ("function", "moved"),
    [
        (lambda x: x.view(16, 16).t()[1:], 0),
        (lambda x: torch.empty(256), 0),
        (lambda x: x + x, 3 * KIB),
        (lambda x: x.add_(1), 2 * KIB),
        (lambda x: x.zero_(), KIB),
        (lambda x: x.clone(), 2 * KIB),
        (lambda x: torch.add(x, 1, out=torch.empty(256)), 2 * KIB),
        (lambda x: x[:1].expand(256) + x, 2 * KIB + 4),
    ],
    ids=["views", "empty", "add", "in place", "overwritten", "copy", "out", "expanded"],
)
def test_bytes_of_an_operation(function: Callable[[Tensor], object], moved: int) -> None:
    """Each input and output counts once, and repeated elements count as they are stored."""
    x = ones()
    assert count(lambda: function(x)).moved == moved


def test_attention_on_a_cpu_has_its_operations() -> None:
    """Two products of 8 queries with 8 keys, of width 4 in 2 heads."""
    q = torch.ones(1, 2, 8, 4)
    assert count(lambda: F.scaled_dot_product_attention(q, q, q)).flops == 2 * 2 * 8 * 8 * (4 + 4)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_recurrent_layers_on_a_cpu_have_their_operations(kind: type[nn.Module], gates: int) -> None:
    """Each of 5 tokens is multiplied by the weights of 4 inputs and 8 states, fused or step by step."""
    layer = kind(4, 8)
    assert count(lambda: layer(torch.ones(5, 1, 4))).flops == 2 * 5 * gates * 8 * (4 + 8)
