from .algebra.low_rank import LowRank as LowRank
from .algebra.operator import (
    ContextOperator as ContextOperator,
)
from .algebra.operator import (
    OperatorProduct as OperatorProduct,
)
from .algebra.solvers import (
    Augmented as Augmented,
)
from .algebra.solvers import (
    LeastNorm as LeastNorm,
)
from .algebra.solvers import (
    Metric as Metric,
)
from .algebra.solvers import (
    Solver as Solver,
)
from .base.checks import inside_transform as inside_transform
from .base.errors import (
    ArgumentError as ArgumentError,
)
from .base.errors import (
    CtxblocksError as CtxblocksError,
)
from .base.errors import (
    DegenerateQueryError as DegenerateQueryError,
)
from .base.errors import (
    DeviceError as DeviceError,
)
from .base.errors import (
    DtypeError as DtypeError,
)
from .base.errors import (
    MovedNameError as MovedNameError,
)
from .base.errors import (
    NonFiniteError as NonFiniteError,
)
from .base.errors import (
    OutOfMemoryError as OutOfMemoryError,
)
from .base.errors import (
    PluginError as PluginError,
)
from .base.errors import (
    ShapeError as ShapeError,
)
from .base.errors import (
    SingularOperatorError as SingularOperatorError,
)
from .base.errors import (
    UnknownLayerError as UnknownLayerError,
)
from .blocks.block import (
    ContextualBlock as ContextualBlock,
)
from .blocks.layer import (
    ContextualLayer as ContextualLayer,
)
from .blocks.layer import (
    ProjectedLayer as ProjectedLayer,
)
from .blocks.mixture import MixtureOfExperts as MixtureOfExperts
from .blocks.networks import (
    MLP as MLP,
)
from .blocks.networks import (
    GatedMLP as GatedMLP,
)
from .blocks.networks import (
    Network as Network,
)
from .blocks.read import Read as Read
from .blocks.residual import (
    ParallelBlock as ParallelBlock,
)
from .blocks.residual import (
    PlainBlock as PlainBlock,
)
from .blocks.residual import (
    ResidualBlock as ResidualBlock,
)
from .blocks.stack import Stack as Stack
from .blocks.update import ImplicitUpdate as ImplicitUpdate
from .blocks.weights import (
    LinearWeights as LinearWeights,
)
from .blocks.weights import (
    RankOneChange as RankOneChange,
)
from .blocks.weights import (
    last_layer_key as last_layer_key,
)
from .exactness.verify import (
    VerifyRow as VerifyRow,
)
from .exactness.verify import (
    verify as verify,
)
from .registration.commands import CommandSpec as CommandSpec
from .registration.families import (
    WIRINGS as WIRINGS,
)
from .registration.families import (
    BlockSpec as BlockSpec,
)
from .registration.families import (
    FamilySpec as FamilySpec,
)
from .registration.observers import (
    Observer as Observer,
)
from .registration.observers import (
    ObserverSpec as ObserverSpec,
)
from .registration.probes import (
    Probe as Probe,
)
from .registration.probes import (
    Trial as Trial,
)
from .registration.probes import (
    Updates as Updates,
)
from .registration.registry import (
    create as create,
)
from .registration.registry import (
    registry as registry,
)
from .registration.sections import SectionSpec as SectionSpec
from .registration.specs import (
    LayerSpec as LayerSpec,
)
from .registration.specs import (
    Traits as Traits,
)
from .registration.specs import (
    hookimpl as hookimpl,
)
from .registration.tasks import (
    Baseline as Baseline,
)
from .registration.tasks import (
    Prompts as Prompts,
)
from .registration.tasks import (
    TaskSpec as TaskSpec,
)
from .theorems.dynamics import (
    Dynamics as Dynamics,
)
from .theorems.dynamics import (
    dynamics as dynamics,
)
from .theorems.factorization import (
    Factorization as Factorization,
)
from .theorems.factorization import (
    factorize as factorize,
)
from .theorems.finetuning import (
    FineTuning as FineTuning,
)
from .theorems.finetuning import (
    finetune as finetune,
)
from .theorems.generation import transfer_generation as transfer_generation
from .theorems.implicit_update import implicit_update as implicit_update
from .theorems.transfer import transfer as transfer

__version__: str
__all__: list[str]
