"""Language models of `transformers`: the effect of a prompt on the weights of every block.

Public names resolve on first use; they and their modules are listed once, in `__init__.pyi`.
"""

import lazy_loader

from ctxblocks import FamilySpec, hookimpl

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "ctxblocks_families"])


def __dir__() -> list[str]:
    return __all__


@hookimpl
def ctxblocks_families() -> list[FamilySpec]:
    """The families of this plugin."""
    from ctxblocks_transformers.wiring.families import FAMILIES

    return list(FAMILIES)
