import ctxblocks

from .export.usage import OneQueryWarning as OneQueryWarning
from .prefixes.page import page as page
from .prefixes.picture import picture as picture
from .prefixes.prompt_dynamics import PromptDynamics as PromptDynamics
from .prefixes.trace import trace as trace
from .updates.application import Application as Application
from .updates.course import Course as Course
from .updates.model_update import ModelUpdate as ModelUpdate
from .updates.replay import Replay as Replay, replay as replay
from .updates.transfer import transfer_model as transfer_model
from .wiring.difference import Difference as Difference, InertUpdateError as InertUpdateError
from .wiring.explain import LayerReport as LayerReport, ModelReport as ModelReport, explain as explain
from .wiring.guess import guess as guess
from .wiring.keep import Kept as Kept
from .wiring.load import (
    LoadError as LoadError,
    load_model as load_model,
    load_skeleton as load_skeleton,
    prompt_tokens as prompt_tokens,
)

__all__: list[str]

def ctxblocks_families() -> list[ctxblocks.FamilySpec]: ...
