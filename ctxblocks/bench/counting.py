"""What a call takes beside time: peak memory, floating-point operations, bytes moved.

On a CPU the peak is counted, not read from a clock or from the system: it is the sum of the storages that are alive at
once, and the same at every call. What an operation holds inside itself (a kernel's scratch space) is not seen.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

UNWRITTEN = ("aten::empty", "aten::new_empty")
"""Beginnings of the names of operations that return memory as it is."""
OVERWRITING = ("aten::copy_", "aten::fill_", "aten::zero_", "aten::normal_", "aten::uniform_")
"""Operations that do not read what they write over."""


@attrs.frozen(kw_only=True)
class Work:
    """What one call does.

    Attributes:
        memory: peak of the memory that the call holds, its result included, beyond what was held before, in bytes.
        flops: floating-point operations of matrix products, convolutions and attention; those of elementwise
            operations and of fused recurrent kernels on a GPU are not counted.
        moved: bytes that operations read and write, each input and output once per operation; views move nothing.
            Fused kernels count as one operation, and caches serve a part of it.
    """

    memory: int
    flops: int
    moved: int


def count_work(function: Callable[[], object], device: torch.device) -> Work:
    """Call the function once, much slower than usual, and count.

    Args:
        function: without gradient recording.
        device: where it computes; on CUDA the peak is the allocator's own.
    """
    storages = StorageCounter()
    on_gpu = device.type == "cuda"
    before = _reset_peak(device) if on_gpu else 0
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_formulas()) as products, storages:
        result = function()
    peak = torch.cuda.max_memory_allocated(device) - before if on_gpu else storages.peak
    del result
    return Work(memory=peak, flops=int(products.get_total_flops()), moved=storages.moved)


class StorageCounter(TorchDispatchMode):
    """Within it, storages are counted from the operation that makes them until nothing refers to them.

    Attributes:
        alive: bytes of the storages made within it that are alive.
        peak: the most that `alive` has been.
        moved: bytes that operations other than views have read and written.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self.moved = 0
        self._sizes: dict[int, int] = {}  # bytes of the storages made here
        self._watched: dict[int, weakref.ref[object]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation and count its storages and bytes."""
        given = {} if kwargs is None else kwargs
        inputs = _tensors((args, given))
        for tensor in inputs:
            self._see(tensor, counted=False)
        output = func(*args, **given)
        outputs = _tensors(output)
        fresh = [self._see(tensor, counted=True) for tensor in outputs]
        self.peak = max(self.peak, self.alive)
        if any(fresh) or func._schema.is_mutable:
            self.moved += _moved(func, args, given, outputs)
        return output

    def _see(self, tensor: Tensor, counted: bool) -> bool:
        """Take a tensor's storage into account, once; whether it is new."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()  # the object lives as long as the storage itself
        if key not in self._watched:
            self._watched[key] = weakref.ref(storage, lambda _: self._forget(key))
            if counted:
                self._resize(key, size)
            return counted
        if key in self._sizes:
            self._resize(key, size)
        return False

    def _resize(self, key: int, size: int) -> None:
        self.alive += size - self._sizes.get(key, 0)
        self._sizes[key] = size

    def _forget(self, key: int) -> None:
        self.alive -= self._sizes.pop(key, 0)
        del self._watched[key]


def _moved(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], outputs: list[Tensor]) -> int:
    """Bytes that an operation reads and writes."""
    name, schema = func._schema.name, func._schema
    written = sum(map(_size, outputs)) if outputs else 0
    if name.startswith(UNWRITTEN):
        return 0
    out = {argument.name for argument in schema.arguments if argument.kwarg_only and argument.alias_info is not None}
    read = _tensors((args[1:] if name in OVERWRITING else args, {k: v for k, v in kwargs.items() if k not in out}))
    return written + sum(map(_size, read))


def _size(tensor: Tensor) -> int:
    """Bytes of the elements that a tensor has, those that it repeats (stride 0) counted once."""
    count = tensor.element_size() if tensor.numel() else 0
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _formulas() -> dict[Any, Callable[..., int]]:
    """Operations that torch's counter leaves out on a CPU: fused attention and the fused recurrent layer."""
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten.mkldnn_rnn_layer: _recurrent_flops,
    }


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """Two products of every query with every key, as torch counts its other kernels: causal ones in full too."""
    batch, heads, rows, width = query
    return int(2 * batch * heads * rows * key[-2] * (width + value[-1]))


def _recurrent_flops(tokens: Any, inner: Any, recurrent: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """Every token times the weights on inputs and on states."""
    steps, batch, _ = tokens
    return int(2 * steps * batch * (inner[0] * inner[1] + recurrent[0] * recurrent[1]))


def _reset_peak(device: torch.device) -> int:
    """Bytes allocated on the GPU now, from where its peak is counted."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
