/* What the index of a mirror remembers of a directory's entries: stamps, and all rows of a directory in one call. */
#include "native.h"

#include <string.h>
#include <sys/stat.h>

/* A stamp, "<IqqqQIIIQ", of which two are equal only if nothing has changed: as records.stamp() makes it. */
unsigned char *stamp_put(unsigned char *to, const Listed *entry)
{
    to = put(to, entry->mode, 4);
    to = put(to, (uint64_t)entry->mtime_ns, 8);
    to = put(to, (uint64_t)entry->ctime_ns, 8);
    to = put(to, (uint64_t)entry->size, 8);
    to = put(to, entry->inode, 8);
    to = put(to, entry->uid, 4);
    to = put(to, entry->gid, 4);
    to = put(to, entry->links, 4);
    return put(to, entry->rdev, 8);
}

enum { HASH_SIZE = 32, ROW_SIZE = 2 + 2 * STAMP_SIZE + HASH_SIZE };

typedef struct {
    unsigned char *to;
    Py_ssize_t files;
    long long size;
} Rows;

/* One row: what is known of the entry's source, and what is there. -1 with an error. */
static int add_row(Rows *rows, Listed *entry, const char *name, PyObject *known)
{
    char *source, *hash;
    Py_ssize_t length, hash_length;
    if (!PyTuple_Check(known) || PyTuple_Size(known) != 2 ||
        PyBytes_AsStringAndSize(PyTuple_GetItem(known, 0), &source, &length) < 0 ||
        PyBytes_AsStringAndSize(PyTuple_GetItem(known, 1), &hash, &hash_length) < 0 || length != STAMP_SIZE ||
        hash_length != HASH_SIZE) {
        PyErr_SetString(PyExc_ValueError, "what is known of an entry is its stamp and its hash");
        return -1;
    }
    if (S_ISREG(entry->mode)) {
        rows->files++;
        rows->size += entry->size;
    }
    if (entry->links > 1) { /* its ctime changes with each name that is made or removed */
        entry->ctime_ns = 0;
        entry->links = 2;
    }
    unsigned char *to = put(rows->to, entry->length, 2);
    memcpy(to, name, entry->length);
    memcpy(to + entry->length, source, STAMP_SIZE);
    to = stamp_put(to + entry->length + STAMP_SIZE, entry);
    memcpy(to, hash, HASH_SIZE);
    rows->to = to + HASH_SIZE;
    return 0;
}

/* rows(packed, sides) -> (rows, files, size): what the index remembers of the entries of pack() that sides has, a dict of
 * (stamp, hash) by name; in their order. */
PyObject *mirror_rows(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *packed;
    Py_ssize_t length;
    PyObject *sides;
    if (!PyArg_ParseTuple(arguments, "y#O:rows", &packed, &length, &sides))
        return NULL;
    if (!PyDict_Check(sides)) {
        PyErr_SetString(PyExc_TypeError, "sides must be a dict");
        return NULL;
    }
    const unsigned char *from = (const unsigned char *)packed, *end = from + length;
    unsigned char *data = PyMem_Malloc((size_t)(length / LISTED_SIZE * (ROW_SIZE - LISTED_SIZE) + length + 1));
    if (data == NULL)
        return PyErr_NoMemory();
    Rows rows = {.to = data};
    int failed = 0;
    while (!failed && from < end) {
        Listed entry;
        const char *name = listed_take(&from, end, &entry);
        PyObject *key = name == NULL ? NULL : PyBytes_FromStringAndSize(name, (Py_ssize_t)entry.length);
        PyObject *known = key == NULL ? NULL : PyDict_GetItemWithError(sides, key);
        Py_XDECREF(key);
        failed = known == NULL ? PyErr_Occurred() != NULL : add_row(&rows, &entry, name, known) < 0;
    }
    PyObject *found =
        failed ? NULL : Py_BuildValue("y#nL", (char *)data, (Py_ssize_t)(rows.to - data), rows.files, rows.size);
    PyMem_Free(data);
    return found;
}
