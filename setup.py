"""The one part of the build that pyproject.toml cannot say: an optional C extension on the stable ABI."""

import sysconfig

from setuptools import Extension, setup

# The stable ABI does not exist for free-threaded interpreters; there the extension is built for the one version.
stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

rabin = Extension(
    "holdfast.format._rabin",
    ["src/holdfast/format/_rabin.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if stable_abi else [],
    py_limited_api=stable_abi,
    optional=True,  # without a compiler the pure-Python cutter serves: see holdfast.format.chunker
)

setup(
    package_dir={"": "src"},
    ext_modules=[rabin],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable_abi else {},
)
