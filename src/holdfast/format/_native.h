/* What the sources of the extension show each other: the functions that _native.c offers to Python. */
#ifndef HOLDFAST_NATIVE_H
#define HOLDFAST_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__GNUC__) || defined(__clang__)
#define HIDDEN __attribute__((visibility("hidden")))
#define INLINE static inline __attribute__((always_inline))
#define RARELY(condition) __builtin_expect(!!(condition), 0)
#else
#define HIDDEN
#define INLINE static inline
#define RARELY(condition) (condition)
#endif

HIDDEN PyObject *chunker_tables(PyObject *module, PyObject *argument); /* METH_O */
HIDDEN PyObject *chunker_cuts(PyObject *module, PyObject *arguments);
HIDDEN PyObject *scrypt_romix(PyObject *module, PyObject *arguments);

#endif
