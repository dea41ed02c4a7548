/* A set of 32-byte ids in memory that several processes share, without locks: see SharedIds in repository/index.py. */
#include "native.h"

#include <string.h>

enum { ID = 32, BLOCK_IDS = 4096, PROBES = 32, TABLES = 2 };

typedef struct {
    uint64_t position, end; /* where this process writes next, and the end of the block that it may write */
} Cursor;

/* Others read a slot while it is written: the id must be in the log before its position is in the table. */
#if defined(__GNUC__) || defined(__clang__)
#define LOOK(slot) __atomic_load_n(slot, __ATOMIC_ACQUIRE)
#define SHOW(slot, value) __atomic_store_n(slot, value, __ATOMIC_RELEASE)
#define TAKE(count) __atomic_fetch_add(count, 1, __ATOMIC_RELAXED)
#else
#define LOOK(slot) (*(volatile uint32_t *)(slot))
#define SHOW(slot, value) (*(volatile uint32_t *)(slot) = (value))
#define TAKE(count) ((*(volatile uint64_t *)(count))++)
#endif

static uint64_t key_of(const uint8_t *id)
{
    uint64_t key = 0;
    for (int i = 7; i >= 0; i--)
        key = key << 8 | id[i];
    return key;
}

static int add(const Py_buffer *log, const Py_buffer *tables, uint64_t *taken, Cursor *cursor, const uint8_t *id)
{
    uint8_t *ids = log->buf;
    const uint64_t room = (uint64_t)log->len / ID, key = key_of(id);
    for (int which = 0; which < TABLES; which++) {
        uint32_t *table = tables[which].buf;
        uint64_t mask = (uint64_t)tables[which].len / sizeof *table - 1;
        for (uint64_t probe = 0; probe < PROBES; probe++) {
            uint32_t *slot = &table[(key + probe) & mask];
            uint32_t at = LOOK(slot);
            if (at == 0) {
                if (cursor->position == cursor->end) {
                    cursor->position = TAKE(taken) * BLOCK_IDS;
                    cursor->end = cursor->position + BLOCK_IDS;
                }
                if (cursor->end <= room) {
                    memcpy(ids + cursor->position * ID, id, ID);
                    cursor->position++;
                    SHOW(slot, (uint32_t)cursor->position);
                }
                return 1;
            }
            if (at <= room && memcmp(ids + (uint64_t)(at - 1) * ID, id, ID) == 0)
                return 0;
        }
    }
    return 1;
}

static int usable(const Py_buffer *view, size_t unit)
{
    size_t count = (size_t)view->len / unit;
    return (uintptr_t)view->buf % 8 == 0 && count > 0 && (count & (count - 1)) == 0;
}

PyObject *ids_add(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer log, tables[TABLES], taken, cursor;
    const char *id;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(arguments, "w*w*w*w*w*y#:add_id", &log, &tables[0], &tables[1], &taken, &cursor, &id, &size))
        return NULL;
    PyObject *result = NULL;
    if (size != ID || (size_t)taken.len < sizeof(uint64_t) || (size_t)cursor.len < sizeof(Cursor) ||
        !usable(&log, ID) || !usable(&tables[0], 4) || !usable(&tables[1], 4) || (uintptr_t)taken.buf % 8 != 0) {
        PyErr_SetString(PyExc_ValueError, "need shared memory as SharedIds makes it, and an id of 32 bytes");
    } else {
        Cursor here;
        memcpy(&here, cursor.buf, sizeof here);
        result = PyBool_FromLong(add(&log, tables, taken.buf, &here, (const uint8_t *)id));
        memcpy(cursor.buf, &here, sizeof here);
    }
    PyBuffer_Release(&log);
    PyBuffer_Release(&tables[0]);
    PyBuffer_Release(&tables[1]);
    PyBuffer_Release(&taken);
    PyBuffer_Release(&cursor);
    return result;
}
