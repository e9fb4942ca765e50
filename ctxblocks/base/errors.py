"""Every error that ctxblocks raises on purpose.

A message names the thing, what it got, what it needs and the way out. Errors about arguments are also
`ValueError`, so that code which knows nothing of ctxblocks catches them.
"""


class CtxblocksError(Exception):
    """The base of all errors of this package."""


class ArgumentError(CtxblocksError, ValueError):
    """An argument has a value that the call cannot serve."""


class ShapeError(ArgumentError):
    """A tensor has the wrong rank, width or batch shape."""


class DtypeError(ArgumentError):
    """Tensors that meet in one product have different or unsuitable dtypes."""


class DeviceError(ArgumentError):
    """Tensors that meet in one product live on different devices, or the device asked for is absent."""


class NonFiniteError(ArgumentError):
    """A query, a context or a read holds NaN or infinity."""


class DegenerateQueryError(ArgumentError):
    """The read without context is zero, so no rank-one update of Theorem 2.2 exists; `Augmented()` always has one."""


class SingularOperatorError(ArgumentError):
    """A context operator (or the matrix of a `Metric`) has no inverse."""


class UnknownLayerError(ArgumentError):
    """No registered layer has the name asked for."""


class OutOfMemoryError(CtxblocksError):
    """A call needs more memory than the device has free; it was refused before or while allocating."""


class PluginError(CtxblocksError):
    """A plugin failed to import, misspelt a hook, or claims a name that another plugin provides."""


class MovedNameError(CtxblocksError, AttributeError):
    """A public name that has moved to another module; the message says where it is now."""
