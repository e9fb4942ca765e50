from .config import LENGTHS as LENGTHS
from .config import BenchConfig as BenchConfig
from .config import BenchPlan as BenchPlan
from .config import plan_bench as plan_bench
from .report import Report as Report
from .run import bench as bench
from .run import steps_of as steps_of
