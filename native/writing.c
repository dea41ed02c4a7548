/* Small files read, written and copied whole: each call in place of several, and of the Python in between. */
#include "native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

enum { DIGEST = 32, LISTED = 32, PAGE = 4096, LARGEST = 1 << 20 };

/* Opens, reads at most size + 1 bytes, stats and closes. Returns the bytes read, or -1 with errno set. */
ssize_t read_whole(int dir_fd, const char *name, char *buffer, size_t size, struct stat *st, int *has_xattrs)
{
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
    size_t have = 0;
    int saved = 0;
    int fd = openat(dir_fd, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(dir_fd, name, flags); /* O_NOATIME is for the owner only */
    if (fd < 0)
        return -1;
    while (have <= size) {
        ssize_t got = read(fd, buffer + have, size + 1 - have);
        if (got == 0)
            break;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            saved = errno;
            break;
        }
        have += (size_t)got;
        if (have == size)
            break; /* one more call would most likely say 0; the stat below tells of growth */
    }
    if (saved == 0 && fstat(fd, st) != 0)
        saved = errno;
    *has_xattrs = 0;
#ifdef __linux__
    if (saved == 0)
        *has_xattrs = flistxattr(fd, NULL, 0) > 0;
#endif
    close(fd);
    errno = saved;
    return saved == 0 ? (ssize_t)have : -1;
}

/* Whether a new file got attributes that somebody has to look at; labels that the system gives everything do not count. */
static int has_foreign_xattrs(int fd)
{
#ifdef __linux__
    char names[1024];
    ssize_t length = flistxattr(fd, names, sizeof(names));
    if (length < 0)
        return errno == ERANGE;
    for (char *name = names; name < names + length; name += strlen(name) + 1)
        if (strncmp(name, "security.", 9) != 0)
            return 1;
#else
    (void)fd;
#endif
    return 0;
}

typedef struct {
    int dir_fd, must_own;
    const char *temporary, *name, *data;
    size_t size;
    unsigned int mode;
    long long uid, gid, atime_ns, mtime_ns;
} NewFile;

static struct timespec moment(long long ns)
{
    struct timespec found = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    if (found.tv_nsec < 0) {
        found.tv_nsec += 1000000000;
        found.tv_sec--;
    }
    return found;
}

/* Content and metadata; `born` is what the file is like so far. A change of owner that changes nothing costs as much as
 * one that does. */
static int fill(int fd, const NewFile *new, const struct stat *born)
{
    for (size_t done = 0; done < new->size;) {
        ssize_t count = write(fd, new->data + done, new->size - done);
        if (count == 0 || (count < 0 && errno != EINTR))
            return -1;
        done += count > 0 ? (size_t)count : 0;
    }
    int others = (new->uid != -1 && new->uid != (long long)born->st_uid) ||
                 (new->gid != -1 && new->gid != (long long)born->st_gid);
    if (others && fchown(fd, (uid_t)new->uid, (gid_t)new->gid) != 0 && new->must_own)
        return -1;
    if ((born->st_mode & 07777) != new->mode && fchmod(fd, (mode_t)new->mode) != 0)
        return -1;
    const struct timespec times[2] = {moment(new->atime_ns), moment(new->mtime_ns)};
    return has_foreign_xattrs(fd) || futimens(fd, times) != 0 ? -1 : 0;
}

/* Permissions to make a file with: its own where its group may do what everybody may, and its owner no less, so that it
 * is never open to somebody whom its content is not meant for while it still has our owner and group. */
static mode_t first_mode(unsigned int mode)
{
    unsigned int owner = mode >> 6 & 07, group = mode >> 3 & 07, others = mode & 07;
    return group == others && (others & ~owner) == 0 ? (mode_t)(mode & 0777) : 0600;
}

/* Makes a file whole and gives it its name; its inode, or 0: nothing is left of it. */
static unsigned long long make_file(const NewFile *new)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    struct stat st;
    int fd = openat(new->dir_fd, new->temporary, flags, first_mode(new->mode));
    if (fd < 0)
        return 0;
    int failed = fstat(fd, &st) != 0 || fill(fd, new, &st) != 0;
    failed |= close(fd) != 0;
    if (!failed && *new->name)
        failed = renameat(new->dir_fd, new->temporary, new->dir_fd, new->name) != 0;
    if (failed)
        unlinkat(new->dir_fd, new->temporary, 0);
    return failed ? 0 : (unsigned long long)st.st_ino;
}

/* write_small(dir_fd, temporary, name, data, mode, uid, gid, must_own, atime_ns, mtime_ns) -> inode, or 0 */
PyObject *files_write_small(PyObject *module, PyObject *arguments)
{
    (void)module;
    NewFile new;
    Py_ssize_t first, second, size;
    unsigned long long inode;
    if (!PyArg_ParseTuple(arguments, "iy#y#y#ILLpLL:write_small", &new.dir_fd, &new.temporary, &first, &new.name, &second,
                          &new.data, &size, &new.mode, &new.uid, &new.gid, &new.must_own, &new.atime_ns, &new.mtime_ns))
        return NULL;
    if (strlen(new.temporary) != (size_t)first || strlen(new.name) != (size_t)second) {
        PyErr_SetString(PyExc_ValueError, "a name holds a NUL byte");
        return NULL;
    }
    new.size = (size_t)size;
    Py_BEGIN_ALLOW_THREADS
    inode = make_file(&new);
    Py_END_ALLOW_THREADS
    return PyLong_FromUnsignedLongLong(inode);
}

/* One file to copy. What the caller's objects hold is only pointed to. */
typedef struct {
    const char *source;
    const int64_t *listed;   /* size, mtime, ctime, inode; NULL: whatever it is */
    const uint8_t *expected; /* its SHA-256; NULL: whatever it is */
    NewFile new;
    int right;
    unsigned long long inode;
    uint8_t digest[DIGEST];
} Copy;

static int as_listed(const struct stat *st, const int64_t *listed)
{
    const int64_t now[4] = {(int64_t)st->st_size, nanoseconds(MTIME(*st)), nanoseconds(CTIME(*st)), (int64_t)st->st_ino};
    return memcmp(now, listed, LISTED) == 0;
}

/* Whether the file was read into `buffer`, is what it is said to be, and is an ordinary one. */
static int take(int dir_fd, Copy *copy, char *buffer)
{
    struct stat st;
    int has_xattrs;
    ssize_t have = read_whole(dir_fd, copy->source, buffer, copy->new.size, &st, &has_xattrs);
    if (have != (ssize_t)copy->new.size || st.st_size != (off_t)have || !S_ISREG(st.st_mode) || has_xattrs)
        return 0;
    if (copy->listed != NULL && !as_listed(&st, copy->listed))
        return 0;
    for (size_t at = PAGE - 1; at < copy->new.size; at += PAGE)
        if (buffer[at] == 0)
            return 0; /* perhaps a page of zeros, which is to become a hole */
    copy->new.data = buffer;
    return 1;
}

static void copy_two(int source, Copy *copies, size_t count, char **buffers)
{
    Bytes items[2];
    uint8_t digests[2 * DIGEST];
    size_t good = 0;
    for (size_t at = 0; at < count; at++) {
        copies[at].right = take(source, &copies[at], buffers[at]);
        if (copies[at].right)
            items[good++] = (Bytes){(const uint8_t *)buffers[at], copies[at].new.size};
    }
    sha256_some(items, good, digests);
    good = 0;
    for (size_t at = 0; at < count; at++) {
        if (!copies[at].right)
            continue;
        memcpy(copies[at].digest, digests + DIGEST * good++, DIGEST);
        copies[at].right = copies[at].expected == NULL || memcmp(copies[at].expected, copies[at].digest, DIGEST) == 0;
        copies[at].inode = copies[at].right ? make_file(&copies[at].new) : 0;
    }
}

static int parse_copy(PyObject *tuple, Copy *copy)
{
    Py_ssize_t size, listed, expected;
    memset(copy, 0, sizeof *copy);
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "a file to copy is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "yyyy#nILLLLy#", &copy->source, &copy->new.temporary, &copy->new.name, &copy->listed,
                          &listed, &size, &copy->new.mode, &copy->new.uid, &copy->new.gid, &copy->new.atime_ns,
                          &copy->new.mtime_ns, &copy->expected, &expected))
        return -1;
    if (size < 0 || size > LARGEST || (listed != 0 && listed != LISTED) || (expected != 0 && expected != DIGEST)) {
        PyErr_SetString(PyExc_ValueError, "a file to copy is too long, or a field of it has another length");
        return -1;
    }
    copy->new.size = (size_t)size;
    if (listed == 0)
        copy->listed = NULL;
    if (expected == 0)
        copy->expected = NULL;
    return 0;
}

static PyObject *results_of(const Copy *copies, size_t count)
{
    PyObject *results = PyList_New((Py_ssize_t)count);
    for (size_t at = 0; results != NULL && at < count; at++) {
        PyObject *result = copies[at].inode == 0
                               ? Py_NewRef(Py_None)
                               : Py_BuildValue("y#K", copies[at].digest, (Py_ssize_t)DIGEST, copies[at].inode);
        if (result == NULL || PyList_SetItem(results, (Py_ssize_t)at, result) < 0)
            Py_CLEAR(results);
    }
    return results;
}

/* Copies them without the interpreter's lock; -1 with an error. */
static int copy_each(int source, Copy *copies, size_t count)
{
    char *buffers[2] = {malloc(LARGEST + 1), malloc(LARGEST + 1)};
    int failed = buffers[0] == NULL || buffers[1] == NULL;
    if (failed) {
        PyErr_NoMemory();
    } else {
        Py_BEGIN_ALLOW_THREADS
        for (size_t at = 0; at < count; at += 2)
            copy_two(source, copies + at, count - at < 2 ? count - at : 2, buffers);
        Py_END_ALLOW_THREADS
    }
    free(buffers[0]);
    free(buffers[1]);
    return failed ? -1 : 0;
}

/* copy_small(source_fd, target_fd, must_own, files) -> list of (digest, inode), None for what was not copied */
PyObject *files_copy_small(PyObject *module, PyObject *arguments)
{
    (void)module;
    int source, target, must_own;
    PyObject *files;
    if (!PyArg_ParseTuple(arguments, "iipO:copy_small", &source, &target, &must_own, &files))
        return NULL;
    if (!PyList_Check(files) || !(processor_features() & HAS_SHA)) {
        PyErr_SetString(PyExc_TypeError, "files must be a list, and the processor must have SHA instructions");
        return NULL;
    }
    size_t count = (size_t)PyList_Size(files), parsed = 0;
    Copy *copies = malloc(count * sizeof(Copy) + 1);
    if (copies == NULL)
        return PyErr_NoMemory();
    while (parsed < count && parse_copy(PyList_GetItem(files, (Py_ssize_t)parsed), &copies[parsed]) == 0) {
        copies[parsed].new.dir_fd = target;
        copies[parsed++].new.must_own = must_own;
    }
    PyObject *results = parsed < count || copy_each(source, copies, count) < 0 ? NULL : results_of(copies, count);
    free(copies);
    return results;
}

/* A file to copy as its record says: the directory, whether it is to be given to its owner, bits that it does not get. */
typedef struct {
    int target, must_own;
    unsigned int mask;
    const char *prefix;
} Wanted;

enum { NAME = 255, TEMPORARY = 128 };
typedef struct {
    Listed entry;
    int64_t listed[4];
    char name[NAME + 1], temporary[TEMPORARY];
} Named;

/* Whether one call can copy it; the next stage tells of all else. */
static int fits(const Listed *entry)
{
    return S_ISREG(entry->mode) && !(entry->mode & 06000) && entry->size >= 0 && entry->size <= LARGEST &&
           entry->length <= NAME && entry->uid != UINT32_MAX && entry->gid != UINT32_MAX;
}

/* The files of all records in [from, end) that fit; how many, or -1 with an error. */
static Py_ssize_t parse_listed(const Wanted *wanted, const unsigned char *from, const unsigned char *end, Copy *copies,
                               Named *named)
{
    size_t count = 0;
    while (from < end) {
        Named *one = &named[count];
        const char *name = listed_take(&from, end, &one->entry);
        if (name == NULL)
            return -1;
        if (!fits(&one->entry))
            continue;
        const Listed *entry = &one->entry;
        memcpy(one->name, name, entry->length);
        one->name[entry->length] = 0;
        snprintf(one->temporary, TEMPORARY, "%.100s-%zx", wanted->prefix, count);
        memcpy(one->listed, (int64_t[4]){entry->size, entry->mtime_ns, entry->ctime_ns, (int64_t)entry->inode}, LISTED);
        memset(&copies[count], 0, sizeof(Copy));
        copies[count].source = one->name;
        copies[count].listed = one->listed;
        copies[count++].new = (NewFile){
            .dir_fd = wanted->target, .must_own = wanted->must_own, .temporary = one->temporary, .name = one->name,
            .size = (size_t)entry->size, .mode = entry->mode & ~wanted->mask & 01777,
            .uid = wanted->must_own ? (long long)entry->uid : -1, .gid = entry->gid, .atime_ns = entry->mtime_ns,
            .mtime_ns = entry->mtime_ns,
        };
    }
    return (Py_ssize_t)count;
}

/* {name: (stamp, digest)} of those that were copied; *size: their bytes. */
static PyObject *stamped(const Copy *copies, const Named *named, size_t count, long long *size)
{
    PyObject *found = PyDict_New();
    for (size_t at = 0; found != NULL && at < count; at++) {
        unsigned char stamp[STAMP_SIZE];
        if (copies[at].inode == 0)
            continue;
        stamp_put(stamp, &named[at].entry);
        PyObject *name = PyBytes_FromStringAndSize(named[at].name, (Py_ssize_t)named[at].entry.length);
        PyObject *record = Py_BuildValue("y#y#", stamp, (Py_ssize_t)STAMP_SIZE, copies[at].digest, (Py_ssize_t)DIGEST);
        if (name == NULL || record == NULL || PyDict_SetItem(found, name, record) < 0)
            Py_CLEAR(found);
        Py_XDECREF(name);
        Py_XDECREF(record);
        *size += named[at].entry.size;
    }
    return found;
}

/* copy_listed(source_fd, target_fd, must_own, mask, prefix, packed) -> ({name: (stamp, digest)}, size) */
PyObject *files_copy_listed(PyObject *module, PyObject *arguments)
{
    (void)module;
    Wanted wanted;
    int source;
    const char *packed;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(arguments, "iipIyy#:copy_listed", &source, &wanted.target, &wanted.must_own, &wanted.mask,
                          &wanted.prefix, &packed, &length))
        return NULL;
    if (!(processor_features() & HAS_SHA)) {
        PyErr_SetString(PyExc_TypeError, "the processor must have SHA instructions");
        return NULL;
    }
    size_t most = (size_t)length / LISTED_SIZE + 1;
    Copy *copies = malloc(most * sizeof(Copy));
    Named *named = malloc(most * sizeof(Named));
    PyObject *found = NULL;
    long long size = 0;
    const unsigned char *from = (const unsigned char *)packed;
    if (copies == NULL || named == NULL) {
        PyErr_NoMemory();
    } else {
        Py_ssize_t count = parse_listed(&wanted, from, from + length, copies, named);
        if (count >= 0 && copy_each(source, copies, (size_t)count) == 0)
            found = stamped(copies, named, (size_t)count, &size);
    }
    free(copies);
    free(named);
    return found == NULL ? NULL : Py_BuildValue("NL", found, size);
}
