"""The one part of the build that pyproject.toml cannot say: an optional C extension on the stable ABI."""

import sysconfig

from setuptools import Extension, setup

# The stable ABI does not exist for free-threaded interpreters; there the extension is built for the one version.
stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

native = Extension(
    "holdfast._native",
    [
        f"native/{name}.c"
        for name in (
            "module",
            "buffers",
            "chunker",
            "lanes",
            "lanes32",
            "scrypt",
            "files",
            "sha256",
            "cipher",
            "units",
            "ids",
            "compare",
            "crc64",
            "writing",
            "survey",
            "nodes",
            "mirror",
        )
    ],
    depends=["native/native.h", "native/cipher.h", "native/lanes.h"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if stable_abi else [],
    py_limited_api=stable_abi,
    optional=True,  # without a compiler Python serves: see decision 0012
)

setup(
    package_dir={"": "src"},
    ext_modules=[native],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable_abi else {},
)
