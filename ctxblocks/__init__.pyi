from .algebra.low_rank import LowRank as LowRank
from .algebra.operator import ContextOperator as ContextOperator, OperatorProduct as OperatorProduct
from .algebra.solvers import Augmented as Augmented, LeastNorm as LeastNorm, Metric as Metric, Solver as Solver
from .base.checks import inside_transform as inside_transform, readable as readable
from .base.errors import (
    ArgumentError as ArgumentError,
    CtxblocksError as CtxblocksError,
    DegenerateQueryError as DegenerateQueryError,
    DeviceError as DeviceError,
    DtypeError as DtypeError,
    MovedNameError as MovedNameError,
    NonFiniteError as NonFiniteError,
    OutOfMemoryError as OutOfMemoryError,
    PluginError as PluginError,
    ShapeError as ShapeError,
    SingularOperatorError as SingularOperatorError,
    UnknownLayerError as UnknownLayerError,
)
from .blocks.block import ContextualBlock as ContextualBlock
from .blocks.layer import ContextualLayer as ContextualLayer, ProjectedLayer as ProjectedLayer
from .blocks.mixture import MixtureOfExperts as MixtureOfExperts
from .blocks.networks import MLP as MLP, GatedMLP as GatedMLP, Network as Network
from .blocks.projection import project as project
from .blocks.read import Read as Read
from .blocks.residual import ParallelBlock as ParallelBlock, PlainBlock as PlainBlock, ResidualBlock as ResidualBlock
from .blocks.stack import Stack as Stack
from .blocks.update import ImplicitUpdate as ImplicitUpdate
from .blocks.weights import (
    LinearWeights as LinearWeights,
    RankOneChange as RankOneChange,
    foldable as foldable,
    has_hooks as has_hooks,
    last_layer_key as last_layer_key,
)
from .exactness.verify import VerifyRow as VerifyRow, verify as verify
from .registration.commands import CommandSpec as CommandSpec
from .registration.families import WIRINGS as WIRINGS, BlockSpec as BlockSpec, FamilySpec as FamilySpec
from .registration.observers import Observer as Observer, ObserverSpec as ObserverSpec
from .registration.probes import Probe as Probe, Trial as Trial, Updates as Updates
from .registration.registry import create as create, registry as registry
from .registration.sections import SectionSpec as SectionSpec
from .registration.specs import LayerSpec as LayerSpec, Traits as Traits, hookimpl as hookimpl
from .registration.tasks import Baseline as Baseline, Prompts as Prompts, TaskSpec as TaskSpec
from .theorems.dynamics import Dynamics as Dynamics, dynamics as dynamics
from .theorems.factorization import Factorization as Factorization, factorize as factorize
from .theorems.finetuning import FineTuning as FineTuning, finetune as finetune
from .theorems.generation import transfer_generation as transfer_generation
from .theorems.implicit_update import implicit_update as implicit_update
from .theorems.transfer import transfer as transfer

__version__: str
__all__: list[str]
