"""The exceptions of ctxblocks.

A message names the argument, the value it got, the value it needs, and a remedy. Exceptions about arguments are also
`ValueError`s, so that general error handling catches them.
"""


class CtxblocksError(Exception):
    """The base class of all exceptions of this package."""


class ArgumentError(CtxblocksError, ValueError):
    """An argument has an invalid value."""


class ShapeError(ArgumentError):
    """A tensor has the wrong rank, width or batch shape."""


class DtypeError(ArgumentError):
    """Tensors of one operation have different or unsuitable dtypes."""


class DeviceError(ArgumentError):
    """Tensors of one operation are on different devices, or the requested device does not exist."""


class NonFiniteError(ArgumentError):
    """A query, a context or a read contains NaN or infinity."""


class DegenerateQueryError(ArgumentError):
    """The read without context is zero, so no rank-one update of Theorem 2.2 exists; `Augmented()` always has one."""


class SingularOperatorError(ArgumentError):
    """A context operator (or the matrix of a `Metric`) has no inverse."""


class UnknownLayerError(ArgumentError):
    """No registered layer has the requested name."""


class OutOfMemoryError(CtxblocksError):
    """A call needs more memory than is free on the device; raised before or during allocation."""


class PluginError(CtxblocksError):
    """A plugin failed to import, has a misspelt hook, or provides a name that another plugin provides too."""


class MovedNameError(CtxblocksError, ImportError):
    """A public name that has moved to another module; the message says where it is now."""
