/* One system call after the other without Python in between: stat of entries as records, and reading a small file. */
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

#define OF_OTHERS (-2)

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
    if (PyModule_AddIntConstant(module, "VERSION", HOLDFAST_VERSION) < 0)
        return -1;
    return PyModule_AddType(module, state->stat_type);
}

void files_free(void *module)
{
    State *state = PyModule_GetState((PyObject *)module);
    if (state != NULL)
        Py_CLEAR(state->stat_type);
}

/* A Stat, or NotImplemented for times that do not fit. */
static PyObject *new_stat(State *state, const struct stat *st)
{
    if (!times_fit(st)) {
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
    new->mtime_ns = nanoseconds(MTIME(*st));
    new->ctime_ns = nanoseconds(CTIME(*st));
    return (PyObject *)new;
}

/* How many bytes the records of items take; OF_OTHERS if a stat is not one of ours, -1 with an error. */
static Py_ssize_t measure(State *state, PyObject *items)
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
        total += LISTED_SIZE + PyBytes_Size(PyTuple_GetItem(item, 0));
    }
    return total;
}

/* pack(items) -> bytes, or None if a stat is not one of ours: per item a record "<HIqqqQQIIIQ" and the name. */
PyObject *files_pack(PyObject *module, PyObject *items)
{
    State *state = PyModule_GetState(module);
    Py_ssize_t total = measure(state, items), count = total < 0 ? 0 : PyList_Size(items);
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

INLINE uint64_t take(const unsigned char **from, int bytes)
{
    uint64_t value = 0;
    for (int at = 0; at < bytes; at++)
        value |= (uint64_t)(*from)[at] << (8 * at);
    *from += bytes;
    return value;
}

/* A record of pack(), which moves *from; the name in it, or NULL with an error. */
const char *listed_take(const unsigned char **from, const unsigned char *end, Listed *entry)
{
    if (end - *from < LISTED_SIZE) {
        PyErr_SetString(PyExc_ValueError, "a record is cut off");
        return NULL;
    }
    entry->length = (size_t)take(from, 2);
    entry->mode = (uint32_t)take(from, 4);
    entry->mtime_ns = (int64_t)take(from, 8);
    entry->ctime_ns = (int64_t)take(from, 8);
    entry->size = (int64_t)take(from, 8);
    entry->inode = take(from, 8);
    entry->device = take(from, 8);
    entry->uid = (uint32_t)take(from, 4);
    entry->gid = (uint32_t)take(from, 4);
    entry->links = take(from, 4);
    entry->rdev = take(from, 8);
    const char *name = (const char *)*from;
    if ((size_t)(end - *from) < entry->length) {
        PyErr_SetString(PyExc_ValueError, "a name is cut off");
        return NULL;
    }
    *from += entry->length;
    return name;
}

/* (name, Stat) of a record; NULL with an error. */
static PyObject *next_item(State *state, const unsigned char **from, const unsigned char *end)
{
    Listed entry;
    const char *name = listed_take(from, end, &entry);
    if (name == NULL)
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(state->stat_type, Py_tp_alloc);
    Stat *st = (Stat *)allocate(state->stat_type, 0);
    if (st == NULL)
        return NULL;
    st->mode = entry.mode;
    st->uid = entry.uid;
    st->gid = entry.gid;
    st->links = entry.links;
    st->inode = entry.inode;
    st->device = entry.device;
    st->rdev = entry.rdev;
    st->size = entry.size;
    st->mtime_ns = entry.mtime_ns;
    st->ctime_ns = entry.ctime_ns;
    return Py_BuildValue("y#N", name, (Py_ssize_t)entry.length, (PyObject *)st);
}

/* unpack(packed) -> [(name, Stat)]: what pack() was given; directories have neither size nor links. */
PyObject *files_unpack(PyObject *module, PyObject *packed)
{
    char *begin;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(packed, &begin, &size) < 0)
        return NULL;
    const unsigned char *from = (const unsigned char *)begin, *end = from + size;
    PyObject *items = PyList_New(0);
    while (items != NULL && from < end) {
        PyObject *item = next_item(PyModule_GetState(module), &from, end);
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

/* sync(fd) -> bool: the whole file system of an open file on the medium; False where the system has no such call */
PyObject *files_sync(PyObject *module, PyObject *argument)
{
    (void)module;
    long fd = PyLong_AsLong(argument);
    if (fd == -1 && PyErr_Occurred())
        return NULL;
#ifdef __linux__
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = syncfs((int)fd) != 0;
    Py_END_ALLOW_THREADS
    if (failed && errno != ENOSYS)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyBool_FromLong(!failed);
#else
    Py_RETURN_FALSE;
#endif
}
