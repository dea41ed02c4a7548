/* Nodes of regular files, many at once: made, or made as far as stat goes and compared with those of an older tree. */
#include "native.h"

#include <stdlib.h>
#include <string.h>

#define MOST_TEXT 1024 /* of a name, and of what a node says of its owners */
#define MOST_START (2 * MOST_TEXT + 512)
#define SECOND 1000000000
#define QUARTER 900 /* zones change at full quarters of an hour */

typedef struct {
    const char *start, *end;
    const char *name; /* without its quotes */
    size_t length;
} OldNode;

typedef struct {
    OldNode *all;
    size_t count;
} OldNodes;

/* What was asked last: neighbours in a directory mostly have the same owner and were made in the same hour. */
typedef struct {
    PyObject *ask;
    int64_t quarter;
    int64_t minutes;
} Zone;

typedef struct {
    PyObject *ask, *text; /* text: bytes, NULL at first */
    uint32_t uid, gid;
} Owner;

static const char PREFIX[] = "{\"nodes\":[", SUFFIX[] = "]}\n", NAME[] = "{\"name\":\"", SEAM[] = "},{\"name\":\"",
                  TYPE[] = "\",\"type\":\"", NO_CONTENT[] = "\"content\":[]}", CONTENT_END[] = "\"]}";
#define SIZE(text) (sizeof(text) - 1)

static int begins(const char *at, const char *end, const char *text, size_t size)
{
    return (size_t)(end - at) >= size && memcmp(at, text, size) == 0;
}

/* The quote that ends a JSON string, or NULL. */
static const char *string_end(const char *at, const char *end)
{
    while (at < end && *at != '"')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at < end ? at : NULL;
}

/* The node that begins at `at`, up to the seam behind it or to `end`; 0 if none begins there. */
static int read_node(const char *at, const char *end, OldNode *node)
{
    if (!begins(at, end, NAME, SIZE(NAME)))
        return 0;
    node->start = at;
    node->name = at + SIZE(NAME);
    const char *name_end = string_end(node->name, end);
    if (name_end == NULL || !begins(name_end, end, TYPE, SIZE(TYPE)))
        return 0;
    node->length = (size_t)(name_end - node->name);
    return 1;
}

/* As format.tree.raw_slices: 1, 0 if the tree is not laid out as restic's, -1 without memory. */
static int read_nodes(const char *at, const char *end, OldNodes *nodes)
{
    if (!begins(at, end, PREFIX, SIZE(PREFIX)) || (size_t)(end - at) < SIZE(PREFIX) + SIZE(SUFFIX) ||
        memcmp(end - SIZE(SUFFIX), SUFFIX, SIZE(SUFFIX)) != 0)
        return 0;
    at += SIZE(PREFIX);
    end -= SIZE(SUFFIX);
    size_t room = 0;
    OldNode node;
    for (int more = read_node(at, end, &node); more;) {
        const char *seam = node.name;
        OldNode next;
        do {
            seam = memmem(seam, (size_t)(end - seam), SEAM, SIZE(SEAM));
            more = seam != NULL && read_node(seam + 2, end, &next);
        } while (seam != NULL && !more && ++seam);
        node.end = seam != NULL ? seam + 1 : end;
        if (nodes->count == room) {
            room = 2 * room + 64;
            OldNode *all = realloc(nodes->all, room * sizeof(OldNode));
            if (all == NULL)
                return -1;
            nodes->all = all;
        }
        nodes->all[nodes->count++] = node;
        node = next;
    }
    return 1;
}

/* Whether a name stands in JSON as it is, as format.gostring.json_name leaves it. */
static int plain(const char *name, size_t length)
{
    for (size_t at = 0; at < length; at++) {
        unsigned char letter = (unsigned char)name[at];
        if (letter < 0x20 || letter > 0x7e || letter == '"' || letter == '\\' || letter == '<' || letter == '>' ||
            letter == '&')
            return 0;
    }
    return 1;
}

static char *put_text(char *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

#define PUT(to, text) put_text(to, text, SIZE(text))

static char *put_number(char *to, uint64_t number)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *to++ = digits[--count];
    return to;
}

static char *put_digits(char *to, uint64_t number, int count)
{
    for (int at = count - 1; at >= 0; at--, number /= 10)
        to[at] = (char)('0' + number % 10);
    return to + count;
}

static int64_t floor_div(int64_t number, int64_t by)
{
    return number / by - (number % by < 0);
}

/* As format.time.format_time, for years of four digits. Civil dates from days: in years that begin in March, so that
 * the leap day comes last. */
static char *put_time(char *to, int64_t ns, int64_t minutes)
{
    int64_t seconds = floor_div(ns, SECOND), fraction = ns - seconds * SECOND, local = seconds + minutes * 60;
    int64_t days = floor_div(local, 86400), of_day = local - days * 86400, cycle = floor_div(days + 719468, 146097);
    int64_t rest = days + 719468 - cycle * 146097;
    int64_t year = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
    rest -= 365 * year + year / 4 - year / 100;
    int64_t month = (5 * rest + 2) / 153, day = rest - (153 * month + 2) / 5 + 1;
    to = put_digits(to, (uint64_t)(cycle * 400 + year + (month >= 10)), 4);
    to = put_digits(PUT(to, "-"), (uint64_t)((month + 2) % 12 + 1), 2);
    to = put_digits(PUT(to, "-"), (uint64_t)day, 2);
    to = put_digits(PUT(to, "T"), (uint64_t)(of_day / 3600), 2);
    to = put_digits(PUT(to, ":"), (uint64_t)(of_day / 60 % 60), 2);
    to = put_digits(PUT(to, ":"), (uint64_t)(of_day % 60), 2);
    if (fraction) {
        *to++ = '.';
        to = put_digits(to, (uint64_t)fraction, 9);
        while (to[-1] == '0')
            to--;
    }
    if (minutes == 0) {
        *to++ = 'Z';
        return to;
    }
    uint64_t distance = (uint64_t)(minutes < 0 ? -minutes : minutes);
    *to++ = minutes < 0 ? '-' : '+';
    to = put_digits(to, distance / 60, 2);
    return put_digits(PUT(to, ":"), distance % 60, 2);
}

/* -1 with an error. */
static int look_up_zone(Zone *zone, int64_t ns)
{
    int64_t seconds = floor_div(ns, SECOND), quarter = floor_div(seconds, QUARTER);
    if (quarter == zone->quarter)
        return 0;
    PyObject *answer = PyObject_CallFunction(zone->ask, "L", (long long)seconds);
    if (answer == NULL)
        return -1;
    long long offset = PyLong_AsLongLong(answer);
    Py_DECREF(answer);
    if (offset == -1 && PyErr_Occurred())
        return -1;
    zone->quarter = quarter;
    zone->minutes = offset / 60; /* cut towards zero: the text has no room for seconds */
    if (zone->minutes > 24 * 60 || zone->minutes < -24 * 60) {
        PyErr_SetString(PyExc_ValueError, "the offset of a zone is out of range");
        return -1;
    }
    return 0;
}

static int look_up_owner(Owner *owner, uint32_t uid, uint32_t gid)
{
    if (owner->text != NULL && owner->uid == uid && owner->gid == gid)
        return 0;
    PyObject *answer = PyObject_CallFunction(owner->ask, "II", uid, gid);
    if (answer == NULL)
        return -1;
    if (!PyBytes_Check(answer)) {
        PyErr_SetString(PyExc_TypeError, "an owner must be bytes");
        Py_DECREF(answer);
        return -1;
    }
    Py_XDECREF(owner->text);
    *owner = (Owner){.ask = owner->ask, .text = answer, .uid = uid, .gid = gid};
    return 0;
}

static char *put_field(char *to, const char *key, size_t size, uint64_t number)
{
    return number ? put_number(put_text(to, key, size), number) : to;
}

#define FIELD(to, key, number) put_field(to, key, SIZE(key), number)

/* What format.node.NodeWriter.file_start makes; where it ends. */
static char *put_start(char *to, const Listed *file, const char *name, const Owner *owner, int64_t mtime_minutes,
                       int64_t ctime_minutes)
{
    uint64_t mode = file->mode & 0777;
    mode |= file->mode & S_ISUID ? 1 << 23 : 0;
    mode |= file->mode & S_ISGID ? 1 << 22 : 0;
    mode |= file->mode & S_ISVTX ? 1 << 20 : 0;
    to = put_text(PUT(to, NAME), name, file->length);
    to = FIELD(PUT(to, "\",\"type\":\"file\""), ",\"mode\":", mode);
    char *mtime = PUT(to, ",\"mtime\":\"");
    to = put_time(mtime, file->mtime_ns, mtime_minutes);
    size_t length = (size_t)(to - mtime);
    to = put_text(PUT(to, "\",\"atime\":\""), mtime, length);
    to = put_time(PUT(to, "\",\"ctime\":\""), file->ctime_ns, ctime_minutes);
    to = PUT(to, "\"");
    to = put_text(to, PyBytes_AsString(owner->text), (size_t)PyBytes_Size(owner->text));
    to = FIELD(to, ",\"inode\":", file->inode);
    to = FIELD(to, ",\"device_id\":", file->device);
    to = FIELD(to, ",\"size\":", (uint64_t)file->size);
    to = FIELD(to, ",\"links\":", file->links);
    return PUT(to, ",\"");
}

static int ends_well(const OldNode *node)
{
    size_t size = (size_t)(node->end - node->start);
    return (size > SIZE(NO_CONTENT) && memcmp(node->end - SIZE(NO_CONTENT), NO_CONTENT, SIZE(NO_CONTENT)) == 0) ||
           (size > SIZE(CONTENT_END) && memcmp(node->end - SIZE(CONTENT_END), CONTENT_END, SIZE(CONTENT_END)) == 0);
}

/* The node of that name at or behind *cursor, which moves on: both sides are in byte order. Escaped names are passed
 * over, no plain name is one of them. */
static const OldNode *find_node(const OldNodes *nodes, size_t *cursor, const char *name, size_t length)
{
    for (; *cursor < nodes->count; ++*cursor) {
        const OldNode *node = &nodes->all[*cursor];
        if (!plain(node->name, node->length))
            continue;
        int order = memcmp(node->name, name, node->length < length ? node->length : length);
        if (order == 0 && node->length == length)
            return node;
        if (order > 0 || (order == 0 && node->length > length))
            return NULL;
    }
    return NULL;
}

typedef struct {
    Owner owner;
    Zone mtime, ctime;
} Lookups;

/* Whether put_start() serves for a file. */
static int is_usual(const Listed *file, const char *name)
{
    return (file->mode & S_IFMT) == S_IFREG && file->length <= MOST_TEXT && plain(name, file->length);
}

/* The start of a usual file's node: its size, 0 if the names of its owners are too long, -1 with an error. */
static Py_ssize_t make_start(char *start, const Listed *file, const char *name, Lookups *lookups)
{
    if (look_up_owner(&lookups->owner, file->uid, file->gid) < 0 || look_up_zone(&lookups->mtime, file->mtime_ns) < 0 ||
        look_up_zone(&lookups->ctime, file->ctime_ns) < 0)
        return -1;
    if (PyBytes_Size(lookups->owner.text) > MOST_TEXT)
        return 0;
    return put_start(start, file, name, &lookups->owner, lookups->mtime.minutes, lookups->ctime.minutes) - start;
}

/* What settled() and files() make of one record: new bytes or None; NULL with an error. */
typedef PyObject *Make(const Listed *file, const char *name, Lookups *lookups, void *context);

static PyObject *make_all(const unsigned char *from, const unsigned char *end, PyObject *owner, PyObject *offset_at,
                          Make *make, void *context)
{
    Lookups lookups = {.owner = {.ask = owner}, .mtime = {offset_at, INT64_MIN, 0}, .ctime = {offset_at, INT64_MIN, 0}};
    PyObject *results = PyList_New(0);
    while (results != NULL && from < end) {
        Listed file;
        const char *name = listed_take(&from, end, &file);
        PyObject *result = name == NULL ? NULL : make(&file, name, &lookups, context);
        if (result == NULL || PyList_Append(results, result) < 0)
            Py_CLEAR(results);
        Py_XDECREF(result);
    }
    Py_XDECREF(lookups.owner.text);
    return results;
}

typedef struct {
    const OldNodes *nodes;
    size_t cursor;
} Settling;

/* The old node if the file is as it says, None if perhaps not. */
static PyObject *settle(const Listed *file, const char *name, Lookups *lookups, void *context)
{
    Settling *settling = context;
    char start[MOST_START];
    const OldNode *node =
        is_usual(file, name) ? find_node(settling->nodes, &settling->cursor, name, file->length) : NULL;
    Py_ssize_t size = node == NULL ? 0 : make_start(start, file, name, lookups);
    if (size < 0)
        return NULL;
    if (size == 0 || !begins(node->start, node->end, start, (size_t)size) || !ends_well(node))
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(node->start, (Py_ssize_t)(node->end - node->start));
}

typedef struct {
    PyObject *ids;
    Py_ssize_t next;
} Filling;

static char *put_hex(char *to, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t at = 0; at < size; at++) {
        *to++ = digits[bytes[at] >> 4];
        *to++ = digits[bytes[at] & 15];
    }
    return to;
}

/* The node of a file that is one blob, None for an unusual one. */
static PyObject *fill(const Listed *file, const char *name, Lookups *lookups, void *context)
{
    Filling *filling = context;
    char node[MOST_START + 128], *id;
    Py_ssize_t id_size;
    PyObject *item = PyList_GetItem(filling->ids, filling->next++);
    if (item == NULL || PyBytes_AsStringAndSize(item, &id, &id_size) < 0)
        return NULL;
    Py_ssize_t size = is_usual(file, name) && id_size == 32 ? make_start(node, file, name, lookups) : 0;
    if (size < 0)
        return NULL;
    if (size == 0)
        Py_RETURN_NONE;
    char *end = put_hex(PUT(node + size, "content\":[\""), (const unsigned char *)id, 32);
    end = PUT(end, CONTENT_END);
    return PyBytes_FromStringAndSize(node, end - node);
}

/* settled(tree, packed, owner, offset_at) -> list of bytes | None, or None; see module.c */
PyObject *nodes_settled(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *tree;
    const unsigned char *packed;
    Py_ssize_t tree_size, packed_size;
    PyObject *owner, *offset_at, *results = NULL;
    OldNodes nodes = {0};
    if (!PyArg_ParseTuple(arguments, "y#y#OO:settled", &tree, &tree_size, &packed, &packed_size, &owner, &offset_at))
        return NULL;
    int known = read_nodes(tree, tree + tree_size, &nodes);
    if (known < 0)
        PyErr_NoMemory();
    else if (known == 0)
        results = Py_NewRef(Py_None);
    else
        results = make_all(packed, packed + packed_size, owner, offset_at, settle, &(Settling){&nodes, 0});
    free(nodes.all);
    return results;
}

/* files(packed, ids, owner, offset_at) -> list of bytes | None; see module.c */
PyObject *nodes_files(PyObject *module, PyObject *arguments)
{
    (void)module;
    const unsigned char *packed;
    Py_ssize_t size;
    PyObject *ids, *owner, *offset_at;
    if (!PyArg_ParseTuple(arguments, "y#O!OO:files", &packed, &size, &PyList_Type, &ids, &owner, &offset_at))
        return NULL;
    return make_all(packed, packed + size, owner, offset_at, fill, &(Filling){ids, 0});
}
