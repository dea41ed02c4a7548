/* What a file gives back, compared with bytes that are known; and the file's original, if it is unchanged, as well. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

#define STEP (256 << 10) /* what fits into the cache of a core */

enum { OTHER = 0, SAME = 1, ORIGINAL_CHANGED = 2, ORIGINAL_SAME = 3, ORIGINAL_DIFFERS = 4 };

/* 1: the file holds the bytes at that place, and ends there if `ends`; 0: it does not; -1 with errno. The buffer has one
 * byte more than a step, so that the last step tells whether more comes behind. */
static int holds(int fd, const char *data, size_t size, off_t at, int ends, char *buffer)
{
    int first = 1; /* an empty file may have grown */
    while (size > 0 || (first && ends)) {
        size_t step = size < STEP ? size : STEP;
        ssize_t got = pread(fd, buffer, step + (ends && step == size), at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0 && size == 0)
            return 1;
        if (got == 0 || (size_t)got > size || memcmp(buffer, data, (size_t)got) != 0)
            return 0;
        data += got;
        at += got;
        size -= (size_t)got;
        first = 0;
    }
    return 1;
}

static int with_original(const char *path, const char *data, size_t length, off_t at, long long size,
                         long long mtime_ns, char *buffer)
{
    struct stat st;
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || (long long)st.st_size != size)
        return ORIGINAL_CHANGED;
    if (!times_fit(&st) || nanoseconds(MTIME(st)) != mtime_ns)
        return ORIGINAL_CHANGED;
    int fd = open(path, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM && O_NOATIME != 0)
        fd = open(path, flags); /* O_NOATIME is for the owner only */
    if (fd < 0)
        return ORIGINAL_CHANGED;
    int same = holds(fd, data, length, at, 0, buffer);
    close(fd);
    return same < 0 ? ORIGINAL_CHANGED : same ? ORIGINAL_SAME : ORIGINAL_DIFFERS;
}

/* compare(fd, at, data, path | None, size, mtime_ns) -> int; see module.c */
PyObject *compare(PyObject *module, PyObject *arguments)
{
    int fd, found;
    long long at, size, mtime_ns;
    Py_buffer data;
    const char *path;
    Py_ssize_t length;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iLy*z#LL:compare", &fd, &at, &data, &path, &length, &size, &mtime_ns))
        return NULL;
    size_t count = (size_t)data.len;
    char *buffer = malloc((count < STEP ? count : STEP) + 1);
    if (buffer == NULL) {
        PyBuffer_Release(&data);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    found = holds(fd, data.buf, count, (off_t)at, at + (long long)count == size, buffer);
    if (found == SAME && path != NULL)
        found = strlen(path) != (size_t)length
                    ? ORIGINAL_CHANGED
                    : with_original(path, data.buf, count, (off_t)at, size, mtime_ns, buffer);
    Py_END_ALLOW_THREADS
    free(buffer);
    PyBuffer_Release(&data);
    return found < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(found);
}
