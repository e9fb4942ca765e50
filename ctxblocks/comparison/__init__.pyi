from .cells import SCHEMA as SCHEMA
from .conditions import CONDITIONS as CONDITIONS
from .config import PRESETS as PRESETS, CompareConfig as CompareConfig, compare_config as compare_config
from .decay import Decay as Decay, decay_exponent as decay_exponent
from .folder import Comparison as Comparison, read_comparison as read_comparison
from .run import compare as compare
from .section import comparison_section as comparison_section
from .summary import Line as Line, lengths_of as lengths_of, order_differs as order_differs, summarize as summarize
