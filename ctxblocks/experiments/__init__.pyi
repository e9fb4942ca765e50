from .claims import Claim as Claim
from .metrics import Metrics as Metrics
from .presets import Configuration as Configuration, ModelConfig as ModelConfig, preset as preset
from .record import Record as Record
from .run import reproduce as reproduce
from .section import reproduction_section as reproduction_section
from .tasks import Prompts as Prompts, linear_prompts as linear_prompts
