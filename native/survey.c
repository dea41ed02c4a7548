/* Whole directories in one call: what stat says of everything in one, as bytes; and one freed of its files. */
#include "native.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct {
    const char *name;
    size_t at, length;
    int is_dir; /* -1: the file system does not say */
    unsigned long long device, inode;
} Name;

typedef struct {
    char *text; /* the names one behind the other, each with its NUL */
    Name *all;
    size_t used, room, count, most;
} Names;

static void names_free(Names *names)
{
    free(names->text);
    free(names->all);
}

static int names_add(Names *names, const char *name, int is_dir)
{
    size_t length = strlen(name);
    if (names->used + length + 1 > names->room) {
        size_t room = 2 * names->room + length + 4096;
        char *text = realloc(names->text, room);
        if (text == NULL)
            return -1;
        names->text = text;
        names->room = room;
    }
    if (names->count == names->most) {
        size_t most = 2 * names->most + 128;
        Name *all = realloc(names->all, most * sizeof(Name));
        if (all == NULL)
            return -1;
        names->all = all;
        names->most = most;
    }
    memcpy(names->text + names->used, name, length + 1);
    names->all[names->count++] = (Name){.at = names->used, .length = length, .is_dir = is_dir};
    names->used += length + 1;
    return 0;
}

/* All names in a directory but "." and ".."; -1 with errno. Release them either way. */
static int names_read(int dir_fd, Names *names)
{
    memset(names, 0, sizeof *names);
    int own = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    if (directory == NULL) {
        int saved = errno;
        if (own >= 0)
            close(own);
        errno = saved;
        return -1;
    }
    rewinddir(directory); /* the position is shared with dir_fd */
    int failed = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            failed = errno;
            break;
        }
        const char *name = entry->d_name;
        if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0)))
            continue;
        if (names_add(names, name, entry->d_type == DT_UNKNOWN ? -1 : entry->d_type == DT_DIR) != 0) {
            failed = ENOMEM;
            break;
        }
    }
    rewinddir(directory);
    closedir(directory);
    for (size_t at = 0; at < names->count; at++)
        names->all[at].name = names->text + names->all[at].at;
    errno = failed;
    return failed ? -1 : 0;
}

static int by_name(const void *first, const void *second)
{
    return strcmp(((const Name *)first)->name, ((const Name *)second)->name);
}

unsigned char *listed_put(unsigned char *to, const Listed *entry, const char *name)
{
    int is_dir = (entry->mode & S_IFMT) == S_IFDIR;
    to = put(to, entry->length, 2);
    to = put(to, entry->mode, 4);
    to = put(to, (uint64_t)entry->mtime_ns, 8);
    to = put(to, (uint64_t)entry->ctime_ns, 8);
    to = put(to, is_dir ? 0 : (uint64_t)entry->size, 8);
    to = put(to, entry->inode, 8);
    to = put(to, entry->device, 8);
    to = put(to, entry->uid, 4);
    to = put(to, entry->gid, 4);
    to = put(to, is_dir ? 0 : entry->links, 4);
    to = put(to, entry->rdev, 8);
    memcpy(to, name, entry->length);
    return to + entry->length;
}

typedef struct {
    Names names; /* without what vanished, and without sockets */
    unsigned char *packed;
    size_t size;
    int linked;  /* whether a file has several names */
    int unusual; /* whether a time does not fit */
    unsigned long long regular, bytes; /* regular files and their sizes together */
} Survey;

/* -1 with errno. */
static int survey_entries(int dir_fd, Survey *survey)
{
    Names *names = &survey->names;
    unsigned char *to = survey->packed = malloc(names->count * LISTED_SIZE + names->used + 1);
    size_t kept = 0;
    if (to == NULL)
        return -1;
    for (size_t at = 0; at < names->count; at++) {
        struct stat st;
        Name *entry = &names->all[at];
        if (fstatat(dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT)
                continue;
            return -1;
        }
        if (S_ISSOCK(st.st_mode))
            continue;
        if (!times_fit(&st) || entry->length > UINT16_MAX) {
            survey->unusual = 1;
            return 0;
        }
        entry->is_dir = S_ISDIR(st.st_mode);
        entry->device = (unsigned long long)st.st_dev;
        entry->inode = (unsigned long long)st.st_ino;
        if (S_ISREG(st.st_mode)) {
            survey->linked |= st.st_nlink > 1;
            survey->regular++;
            survey->bytes += (unsigned long long)st.st_size;
        }
        const Listed listed = {
            .length = entry->length, .mode = (uint32_t)st.st_mode, .uid = st.st_uid, .gid = st.st_gid,
            .links = (uint64_t)st.st_nlink, .inode = entry->inode, .device = entry->device,
            .rdev = (uint64_t)st.st_rdev, .size = st.st_size,
            .mtime_ns = nanoseconds(MTIME(st)),
            .ctime_ns = nanoseconds(CTIME(st)),
        };
        to = listed_put(to, &listed, entry->name);
        names->all[kept++] = *entry;
    }
    names->count = kept;
    survey->size = (size_t)(to - survey->packed);
    return 0;
}

static int append(PyObject *list, PyObject *item)
{
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

static PyObject *survey_result(const Survey *survey, int with_names)
{
    PyObject *files = PyList_New(0), *folders = PyList_New(0);
    int failed = files == NULL || folders == NULL;
    for (size_t at = 0; with_names && !failed && at < survey->names.count; at++) {
        const Name *entry = &survey->names.all[at];
        Py_ssize_t length = (Py_ssize_t)entry->length;
        failed = entry->is_dir
                     ? append(folders, Py_BuildValue("y#KK", entry->name, length, entry->device, entry->inode))
                     : append(files, PyBytes_FromStringAndSize(entry->name, length));
    }
    if (failed) {
        Py_XDECREF(files);
        Py_XDECREF(folders);
        return NULL;
    }
    return Py_BuildValue("y#NNNKK", (const char *)survey->packed, (Py_ssize_t)survey->size, files, folders,
                         PyBool_FromLong(survey->linked), survey->regular, survey->bytes);
}

/* survey(dir_fd, with_names) -> (packed, files, folders, linked, regular, size), or None; see module.c */
PyObject *survey(PyObject *module, PyObject *arguments)
{
    (void)module;
    Survey survey = {0};
    int dir_fd, with_names, failed;
    if (!PyArg_ParseTuple(arguments, "ip:survey", &dir_fd, &with_names))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    failed = names_read(dir_fd, &survey.names);
    if (!failed && survey.names.count)
        qsort(survey.names.all, survey.names.count, sizeof(Name), by_name);
    failed = failed || survey_entries(dir_fd, &survey);
    Py_END_ALLOW_THREADS
    PyObject *result = failed            ? PyErr_SetFromErrno(PyExc_OSError)
                       : survey.unusual ? Py_NewRef(Py_None)
                                        : survey_result(&survey, with_names);
    names_free(&survey.names);
    free(survey.packed);
    return result;
}

/* clear(dir_fd) -> list of names: unlinks what is no directory, and returns the directories */
PyObject *clear(PyObject *module, PyObject *arguments)
{
    (void)module;
    Names names;
    int dir_fd, failed;
    if (!PyArg_ParseTuple(arguments, "i:clear", &dir_fd))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    failed = names_read(dir_fd, &names);
    for (size_t at = 0; !failed && at < names.count; at++) {
        Name *entry = &names.all[at];
        struct stat st;
        if (entry->is_dir < 0)
            entry->is_dir = fstatat(dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
        failed = !entry->is_dir && unlinkat(dir_fd, entry->name, 0) != 0 && errno != ENOENT;
    }
    Py_END_ALLOW_THREADS
    PyObject *folders = failed ? PyErr_SetFromErrno(PyExc_OSError) : PyList_New(0);
    for (size_t at = 0; folders != NULL && at < names.count; at++) {
        const Name *entry = &names.all[at];
        if (entry->is_dir && append(folders, PyBytes_FromStringAndSize(entry->name, (Py_ssize_t)entry->length)) < 0)
            Py_CLEAR(folders);
    }
    names_free(&names);
    return folders;
}
