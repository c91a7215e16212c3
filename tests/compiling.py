"""Programs of tests run for milliseconds and are compiled by the hundred: XLA is told to take little time for it."""

from importlib.metadata import version

FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, version("jax").split(".")[:2])) <= (0, 10):  # gone since; they take half of the time
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
