/* What the sources of the extension show each other: the functions that module.c offers to Python. */
#ifndef HOLDFAST_NATIVE_H
#define HOLDFAST_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* As in kernel/native.py: rises with every change of a function that Python sees. */
#define HOLDFAST_VERSION 4

#if defined(__GNUC__) || defined(__clang__)
#define HIDDEN __attribute__((visibility("hidden")))
#define INLINE static inline __attribute__((always_inline))
#define RARELY(condition) __builtin_expect(!!(condition), 0)
#else
#define HIDDEN
#define INLINE static inline
#define RARELY(condition) (condition)
#endif

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define HOLDFAST_X86 1
#endif

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#ifdef __APPLE__
#define MTIME(st) ((st).st_mtimespec)
#define CTIME(st) ((st).st_ctimespec)
#else
#define MTIME(st) ((st).st_mtim)
#define CTIME(st) ((st).st_ctim)
#endif

#define LAST_SECOND (INT64_MAX / 1000000000 - 1) /* beyond, nanoseconds do not fit: year 2262 */

/* Whether both times of a file fit into nanoseconds. */
INLINE int times_fit(const struct stat *st)
{
    return MTIME(*st).tv_sec < LAST_SECOND && MTIME(*st).tv_sec > -LAST_SECOND && CTIME(*st).tv_sec < LAST_SECOND &&
           CTIME(*st).tv_sec > -LAST_SECOND;
}

INLINE int64_t nanoseconds(struct timespec moment)
{
    return (int64_t)moment.tv_sec * 1000000000 + moment.tv_nsec;
}

typedef struct {
    const uint8_t *data;
    size_t size;
} Bytes;

/* The memory of every item of a Python sequence, held until it is released. */
typedef struct {
    size_t count;
    Bytes *items;
    Py_buffer *views;
} Buffers;

HIDDEN int buffers_take(Buffers *buffers, PyObject *sequence); /* -1 with a Python error, and nothing to release */
HIDDEN void buffers_release(Buffers *buffers);

/* What a record of pack() says of an entry, little-endian and without gaps: "<HIqqqQQIIIQ", then the name. */
enum { LISTED_SIZE = 66 };
typedef struct {
    size_t length;
    uint32_t mode, uid, gid;
    uint64_t links, inode, device, rdev;
    int64_t mtime_ns, ctime_ns, size;
} Listed;
HIDDEN unsigned char *listed_put(unsigned char *to, const Listed *entry, const char *name);
HIDDEN const char *listed_take(const unsigned char **from, const unsigned char *end, Listed *entry);

enum { STAMP_SIZE = 56 };
HIDDEN unsigned char *stamp_put(unsigned char *to, const Listed *entry);

INLINE unsigned char *put(unsigned char *to, uint64_t value, int bytes)
{
    for (int at = 0; at < bytes; at++)
        to[at] = (unsigned char)(value >> (8 * at));
    return to + bytes;
}

enum { HAS_AES = 1, HAS_SHA = 2, HAS_AVX2 = 4, HAS_GFNI = 8 }; /* GFNI: with AVX-512 F and BW */
HIDDEN int processor_features(void);
HIDDEN PyObject *processor_names(PyObject *module, PyObject *nothing); /* METH_NOARGS */

HIDDEN PyObject *sha256_each(PyObject *module, PyObject *messages); /* METH_O */
HIDDEN PyObject *ids_add(PyObject *module, PyObject *arguments);
HIDDEN PyObject *units_seal(PyObject *module, PyObject *arguments);
HIDDEN PyObject *units_open(PyObject *module, PyObject *arguments);
HIDDEN PyObject *chunker_tables(PyObject *module, PyObject *arguments);
HIDDEN PyObject *chunker_cuts(PyObject *module, PyObject *arguments);
HIDDEN PyObject *crc64(PyObject *module, PyObject *arguments);
HIDDEN PyObject *scrypt_romix(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_pack(PyObject *module, PyObject *items); /* METH_O */
HIDDEN PyObject *survey(PyObject *module, PyObject *arguments);
HIDDEN PyObject *clear(PyObject *module, PyObject *arguments);
HIDDEN PyObject *compare(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_unpack(PyObject *module, PyObject *packed); /* METH_O */
HIDDEN PyObject *nodes_settled(PyObject *module, PyObject *arguments);
HIDDEN PyObject *nodes_files(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_read_small(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_write_small(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_copy_small(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_copy_listed(PyObject *module, PyObject *arguments);
HIDDEN PyObject *files_sync(PyObject *module, PyObject *argument); /* METH_O */
HIDDEN PyObject *mirror_rows(PyObject *module, PyObject *arguments);

/* Opens, reads at most size + 1 bytes, stats and closes; the bytes read, or -1 with errno set. No Python in it. */
HIDDEN ssize_t read_whole(int dir_fd, const char *name, char *buffer, size_t size, struct stat *st, int *has_xattrs);
/* The digests of messages, 32 bytes each; only where the processor HAS_SHA. */
HIDDEN void sha256_some(const Bytes *messages, size_t count, uint8_t *digests);

/* The module's state belongs to files.c alone. */
#define FILES_STATE_SIZE 16
HIDDEN int files_exec(PyObject *module);
HIDDEN void files_free(void *module);

#endif
