from .config import LENGTHS as LENGTHS, BenchConfig as BenchConfig, BenchPlan as BenchPlan, plan_bench as plan_bench
from .report import Report as Report
from .run import bench as bench, steps_of as steps_of
