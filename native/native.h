/* What the sources of the extension show each other: the functions that module.c offers to Python. */
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
HIDDEN PyObject *files_look(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_pack(PyObject *module, PyObject *items); /* METH_O */
HIDDEN PyObject *files_read_small(PyObject *module, PyObject *arguments);

/* The module's state belongs to files.c alone. */
#define FILES_STATE_SIZE 16
HIDDEN int files_exec(PyObject *module);
HIDDEN void files_free(void *module);

#endif
