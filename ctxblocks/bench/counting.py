"""Peak memory, floating-point operations and bytes moved of a call.

On a CPU the peak is the largest sum of live storages, which is the same in every call; the system's figures are not used.
Memory that an operation allocates internally, such as the scratch space of a kernel, is not counted.
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
"""Prefixes of the names of operations that return uninitialised memory."""
OVERWRITING = ("aten::copy_", "aten::fill_", "aten::zero_", "aten::normal_", "aten::uniform_")
"""Operations that overwrite their first argument without reading it."""


@attrs.frozen(kw_only=True)
class Work:
    """The work of one call.

    Attributes:
        memory: peak memory of the call in bytes, including its result, in addition to the memory held before.
        flops: floating-point operations of matrix products, convolutions and attention; elementwise operations, and fused
            recurrent kernels on a GPU, are not counted.
        moved: bytes that operations read and write, each input and output once per operation; views move nothing.
            A fused kernel is one operation. A part of these bytes may come from caches.
    """

    memory: int
    flops: int
    moved: int


def count_work(function: Callable[[], object], device: torch.device) -> Work:
    """Call the function once, which takes much longer than usual, and count its work.

    Args:
        function: the call, which runs without recording gradients.
        device: device of the computation; on CUDA the peak is that of torch's allocator.
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
    """A mode in which each storage is counted from the operation that creates it until its last reference is gone.

    Attributes:
        alive: bytes of live storages that were created in this mode.
        peak: the maximum of `alive`.
        moved: bytes that operations other than views have read and written.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = 0
        self.peak = 0
        self.moved = 0
        self._sizes: dict[int, int] = {}  # bytes of the storages created in this mode
        self._watched: dict[int, weakref.ref[object]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the operation, and count its storages and bytes."""
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
        """Register a tensor's storage; returns whether it was created by the present operation."""
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
    """The bytes that an operation reads and writes."""
    name, schema = func._schema.name, func._schema
    written = sum(map(_size, outputs)) if outputs else 0
    if name.startswith(UNWRITTEN):
        return 0
    out = {argument.name for argument in schema.arguments if argument.kwarg_only and argument.alias_info is not None}
    read = _tensors((args[1:] if name in OVERWRITING else args, {k: v for k, v in kwargs.items() if k not in out}))
    return written + sum(map(_size, read))


def _size(tensor: Tensor) -> int:
    """The bytes of a tensor's elements; repeated elements (stride 0) are counted once."""
    count = tensor.element_size() if tensor.numel() else 0
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        count *= size if stride else 1
    return count


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _formulas() -> dict[Any, Callable[..., int]]:
    """Operations that torch's counter ignores on a CPU: fused attention and the fused recurrent layer."""
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten.mkldnn_rnn_layer: _recurrent_flops,
    }


def _attention_flops(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """Two products of every query with every key, also for causal attention, as torch counts its other kernels."""
    batch, heads, rows, width = query
    return int(2 * batch * heads * rows * key[-2] * (width + value[-1]))


def _recurrent_flops(tokens: Any, inner: Any, recurrent: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    """The products of every token with the weights for inputs and states."""
    steps, batch, _ = tokens
    return int(2 * steps * batch * (inner[0] * inner[1] + recurrent[0] * recurrent[1]))


def _reset_peak(device: torch.device) -> int:
    """Reset the GPU's peak memory; returns the bytes allocated now."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
