/* One system call after the other without Python in between: stat of many names, and reading a small file. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef __APPLE__
#define MTIME(st) ((st).st_mtimespec)
#define CTIME(st) ((st).st_ctimespec)
#else
#define MTIME(st) ((st).st_mtim)
#define CTIME(st) ((st).st_ctim)
#endif

#define BATCH 256
#define SPOOLED 70 /* bytes of "<HIIIqqqQQQQ" */
#define OF_OTHERS (-2)
#define LAST_SECOND (INT64_MAX / 1000000000 - 1) /* beyond, nanoseconds do not fit: year 2262 */

typedef struct {
    PyObject_HEAD
    unsigned int mode, uid, gid;
    unsigned long long links, inode, device, rdev;
    long long size, mtime_ns, ctime_ns;
} Stat;

static PyMemberDef stat_members[] = {
    {"st_mode", T_UINT, offsetof(Stat, mode), READONLY, NULL},
    {"st_uid", T_UINT, offsetof(Stat, uid), READONLY, NULL},
    {"st_gid", T_UINT, offsetof(Stat, gid), READONLY, NULL},
    {"st_nlink", T_ULONGLONG, offsetof(Stat, links), READONLY, NULL},
    {"st_ino", T_ULONGLONG, offsetof(Stat, inode), READONLY, NULL},
    {"st_dev", T_ULONGLONG, offsetof(Stat, device), READONLY, NULL},
    {"st_rdev", T_ULONGLONG, offsetof(Stat, rdev), READONLY, NULL},
    {"st_size", T_LONGLONG, offsetof(Stat, size), READONLY, NULL},
    {"st_mtime_ns", T_LONGLONG, offsetof(Stat, mtime_ns), READONLY, NULL},
    {"st_ctime_ns", T_LONGLONG, offsetof(Stat, ctime_ns), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static void stat_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot stat_slots[] = {
    {Py_tp_members, stat_members},
    {Py_tp_dealloc, (void *)stat_dealloc},
    {Py_tp_doc, "What stat(2) says of a file, with the attribute names of os.stat_result."},
    {0, NULL},
};

static PyType_Spec stat_spec = {
    .name = "holdfast._native.Stat",
    .basicsize = sizeof(Stat),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stat_slots,
};

typedef struct {
    PyTypeObject *stat_type;
} State;

typedef char state_fits[sizeof(State) <= FILES_STATE_SIZE ? 1 : -1];

int files_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->stat_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &stat_spec, NULL);
    if (state->stat_type == NULL)
        return -1;
    return PyModule_AddType(module, state->stat_type);
}

void files_free(void *module)
{
    State *state = PyModule_GetState((PyObject *)module);
    if (state != NULL)
        Py_CLEAR(state->stat_type);
}

static int in_range(const struct stat *st)
{
    return MTIME(*st).tv_sec < LAST_SECOND && MTIME(*st).tv_sec > -LAST_SECOND && CTIME(*st).tv_sec < LAST_SECOND &&
           CTIME(*st).tv_sec > -LAST_SECOND;
}

/* A Stat, or NotImplemented for times that do not fit. */
static PyObject *new_stat(State *state, const struct stat *st)
{
    if (!in_range(st)) {
        Py_INCREF(Py_NotImplemented);
        return Py_NotImplemented;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(state->stat_type, Py_tp_alloc);
    Stat *new = (Stat *)allocate(state->stat_type, 0);
    if (new == NULL)
        return NULL;
    new->mode = (unsigned int)st->st_mode;
    new->uid = (unsigned int)st->st_uid;
    new->gid = (unsigned int)st->st_gid;
    new->links = (unsigned long long)st->st_nlink;
    new->inode = (unsigned long long)st->st_ino;
    new->device = (unsigned long long)st->st_dev;
    new->rdev = (unsigned long long)st->st_rdev;
    new->size = (long long)st->st_size;
    new->mtime_ns = (long long)MTIME(*st).tv_sec * 1000000000 + MTIME(*st).tv_nsec;
    new->ctime_ns = (long long)CTIME(*st).tv_sec * 1000000000 + CTIME(*st).tv_nsec;
    return (PyObject *)new;
}

/* look(dir_fd, names) -> [Stat | None (vanished) | NotImplemented (ask os.lstat)] */
PyObject *files_look(PyObject *module, PyObject *arguments)
{
    int dir_fd;
    PyObject *names;
    const char *paths[BATCH];
    struct stat *found;
    int errors[BATCH];
    if (!PyArg_ParseTuple(arguments, "iO:look", &dir_fd, &names))
        return NULL;
    if (!PyList_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "names must be a list of bytes");
        return NULL;
    }
    State *state = PyModule_GetState(module);
    Py_ssize_t count = PyList_Size(names);
    PyObject *results = PyList_New(count);
    found = malloc(BATCH * sizeof(struct stat));
    if (results == NULL || found == NULL) {
        Py_XDECREF(results);
        free(found);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t first = 0; first < count; first += BATCH) {
        Py_ssize_t size = count - first < BATCH ? count - first : BATCH;
        for (Py_ssize_t at = 0; at < size; at++) {
            char *path;
            Py_ssize_t length;
            /* The list is the caller's own and holds the names while we look at their bytes. */
            if (PyBytes_AsStringAndSize(PyList_GetItem(names, first + at), &path, &length) < 0)
                goto failed;
            if (strlen(path) != (size_t)length) {
                PyErr_SetString(PyExc_ValueError, "a name holds a NUL byte");
                goto failed;
            }
            paths[at] = path;
        }
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < size; at++)
            errors[at] = fstatat(dir_fd, paths[at], &found[at], AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
        Py_END_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < size; at++) {
            PyObject *result;
            if (errors[at] == 0) {
                result = new_stat(state, &found[at]);
                if (result == NULL)
                    goto failed;
            } else if (errors[at] == ENOENT) {
                Py_INCREF(Py_None);
                result = Py_None;
            } else {
                errno = errors[at];
                PyErr_SetFromErrno(PyExc_OSError);
                goto failed;
            }
            if (PyList_SetItem(results, first + at, result) < 0)
                goto failed;
        }
    }
    free(found);
    return results;
failed:
    free(found);
    Py_DECREF(results);
    return NULL;
}

/* How many bytes the records of items take; OF_OTHERS if a stat is not one of ours, -1 with an error. */
static Py_ssize_t measure(State *state, PyObject *items, Py_ssize_t record)
{
    if (!PyList_Check(items)) {
        PyErr_SetString(PyExc_TypeError, "items must be a list of (name, stat)");
        return -1;
    }
    Py_ssize_t count = PyList_Size(items), total = 0;
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *item = PyList_GetItem(items, at);
        if (!PyTuple_Check(item) || PyTuple_Size(item) != 2 || !PyBytes_Check(PyTuple_GetItem(item, 0))) {
            PyErr_SetString(PyExc_TypeError, "an item must be (bytes, stat)");
            return -1;
        }
        if (Py_TYPE(PyTuple_GetItem(item, 1)) != state->stat_type)
            return OF_OTHERS;
        total += record + PyBytes_Size(PyTuple_GetItem(item, 0));
    }
    return total;
}

/* pack(items) -> bytes, or None if a stat is not one of ours: per item a record "<HIqqqQQIIIQ" and the name. */
PyObject *files_pack(PyObject *module, PyObject *items)
{
    State *state = PyModule_GetState(module);
    Py_ssize_t total = measure(state, items, LISTED_SIZE), count = total < 0 ? 0 : PyList_Size(items);
    if (total == OF_OTHERS)
        Py_RETURN_NONE;
    if (total < 0)
        return NULL;
    PyObject *packed = PyBytes_FromStringAndSize(NULL, total);
    if (packed == NULL)
        return NULL;
    unsigned char *to = (unsigned char *)PyBytes_AsString(packed);
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *item = PyList_GetItem(items, at), *name = PyTuple_GetItem(item, 0);
        const Stat *st = (const Stat *)PyTuple_GetItem(item, 1);
        const Listed listed = {
            .length = (size_t)PyBytes_Size(name), .mode = st->mode, .uid = st->uid, .gid = st->gid, .links = st->links,
            .inode = st->inode, .device = st->device, .rdev = st->rdev, .size = st->size, .mtime_ns = st->mtime_ns,
            .ctime_ns = st->ctime_ns,
        };
        to = listed_put(to, &listed, PyBytes_AsString(name));
    }
    return packed;
}

/* spool(items) -> bytes, or None if a stat is not one of ours: per item a record "<HIIIqqqQQQQ" and the name. */
PyObject *files_spool(PyObject *module, PyObject *items)
{
    State *state = PyModule_GetState(module);
    Py_ssize_t total = measure(state, items, SPOOLED);
    if (total == OF_OTHERS)
        Py_RETURN_NONE;
    PyObject *spooled = total < 0 ? NULL : PyBytes_FromStringAndSize(NULL, total);
    if (spooled == NULL)
        return NULL;
    unsigned char *to = (unsigned char *)PyBytes_AsString(spooled);
    Py_ssize_t count = PyList_Size(items);
    for (Py_ssize_t at = 0; at < count; at++) {
        PyObject *item = PyList_GetItem(items, at), *name = PyTuple_GetItem(item, 0);
        const Stat *st = (const Stat *)PyTuple_GetItem(item, 1);
        size_t length = (size_t)PyBytes_Size(name);
        to = put(to, length, 2);
        to = put(to, st->mode, 4);
        to = put(to, st->uid, 4);
        to = put(to, st->gid, 4);
        to = put(to, (uint64_t)st->mtime_ns, 8);
        to = put(to, (uint64_t)st->ctime_ns, 8);
        to = put(to, (uint64_t)st->size, 8);
        to = put(to, st->inode, 8);
        to = put(to, st->device, 8);
        to = put(to, st->links, 8);
        to = put(to, st->rdev, 8);
        memcpy(to, PyBytes_AsString(name), length);
        to += length;
    }
    return spooled;
}

INLINE uint64_t take(const unsigned char **from, int bytes)
{
    uint64_t value = 0;
    for (int at = 0; at < bytes; at++)
        value |= (uint64_t)(*from)[at] << (8 * at);
    *from += bytes;
    return value;
}

/* One record of spool() as (name, Stat); NULL with an error. */
static PyObject *next_spooled(State *state, const unsigned char **from, const unsigned char *end)
{
    if (end - *from < SPOOLED) {
        PyErr_SetString(PyExc_ValueError, "a record is cut off");
        return NULL;
    }
    Py_ssize_t length = (Py_ssize_t)take(from, 2);
    allocfunc allocate = (allocfunc)PyType_GetSlot(state->stat_type, Py_tp_alloc);
    Stat *st = (Stat *)allocate(state->stat_type, 0);
    if (st == NULL)
        return NULL;
    st->mode = (unsigned int)take(from, 4);
    st->uid = (unsigned int)take(from, 4);
    st->gid = (unsigned int)take(from, 4);
    st->mtime_ns = (long long)take(from, 8);
    st->ctime_ns = (long long)take(from, 8);
    st->size = (long long)take(from, 8);
    st->inode = take(from, 8);
    st->device = take(from, 8);
    st->links = take(from, 8);
    st->rdev = take(from, 8);
    PyObject *name = NULL;
    if (end - *from < length)
        PyErr_SetString(PyExc_ValueError, "a name is cut off");
    else
        name = PyBytes_FromStringAndSize((const char *)*from, length);
    if (name == NULL) {
        Py_DECREF((PyObject *)st);
        return NULL;
    }
    *from += length;
    return Py_BuildValue("NN", name, (PyObject *)st);
}

/* unspool(data) -> [(name, Stat)]: what spool() was given. */
PyObject *files_unspool(PyObject *module, PyObject *data)
{
    char *begin;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &begin, &size) < 0)
        return NULL;
    const unsigned char *from = (const unsigned char *)begin, *end = from + size;
    PyObject *items = PyList_New(0);
    while (items != NULL && from < end) {
        PyObject *item = next_spooled(PyModule_GetState(module), &from, end);
        if (item == NULL || PyList_Append(items, item) < 0)
            Py_CLEAR(items);
        Py_XDECREF(item);
    }
    return items;
}

/* read_small(dir_fd, name, size) -> (data, Stat | NotImplemented, has_xattrs) */
PyObject *files_read_small(PyObject *module, PyObject *arguments)
{
    int dir_fd, has_xattrs;
    Py_ssize_t length, size;
    const char *name;
    struct stat st;
    ssize_t have;
    if (!PyArg_ParseTuple(arguments, "iy#n:read_small", &dir_fd, &name, &length, &size))
        return NULL;
    if (size < 0 || size > (1 << 24) || strlen(name) != (size_t)length) {
        PyErr_SetString(PyExc_ValueError, "the size is out of range, or the name holds a NUL byte");
        return NULL;
    }
    char *buffer = malloc((size_t)size + 1);
    if (buffer == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    have = read_whole(dir_fd, name, buffer, (size_t)size, &st, &has_xattrs);
    Py_END_ALLOW_THREADS
    if (have < 0) {
        free(buffer);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *data = PyBytes_FromStringAndSize(buffer, have);
    free(buffer);
    PyObject *stat = data == NULL ? NULL : new_stat(PyModule_GetState(module), &st);
    if (stat == NULL) {
        Py_XDECREF(data);
        return NULL;
    }
    return Py_BuildValue("NNN", data, stat, PyBool_FromLong(has_xattrs));
}
