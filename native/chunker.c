/* restic's chunk boundaries: a Rabin fingerprint over GF(2), scanned in interleaved lanes.
 *
 * The digest of a position is the polynomial of the 64 bytes before it, modulo a degree-53 polynomial. It depends on
 * nothing else, so the positions of a range can be tested in any order: LANES stretches of the data are rolled side by
 * side, which hides the latency of the table lookups. Those of one lane wait for each other (0.65 GB/s), those of five
 * do not (1.6 GB/s). Where the processor has what it takes, its vector units roll 64 or 32 of them (lanes.h). The
 * rules of smallest and largest chunk are applied to what is found; the smallest size need not be scanned at all.
 *
 * Only bytes are loaded from the data: any alignment and any byte order give the same result.
 */
#include "lanes.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { DEGREE = 53, WINDOW = 64, LANES = 5, LONG_LANE = 8192, SHORT_LANE = 512 };
enum { WIDE_LANE = 17 * 64, WIDE_BLOCKS = WIDE_LANE / WINDOW }; /* an odd number of cache lines, for the cache's sets */

typedef struct {
    uint64_t reduce[256]; /* i * x^53 modulo the polynomial, with i itself on top so that one xor also clears it */
    uint64_t leave[256];  /* what a byte still contributes when it has left the window: i * x^512, reduced */
    uint64_t lanes;       /* how many the vector units roll at once, by the maps: 64, 32 or none */
    Maps maps;
} Tables;

/* value * x^8 + byte, modulo the polynomial */
INLINE uint64_t append(const Tables *t, uint64_t value, uint8_t byte)
{
    return (value << 8 | byte) ^ t->reduce[value >> (DEGREE - 8)];
}

INLINE uint64_t slide(const Tables *t, uint64_t value, uint8_t enters, uint8_t leaves)
{
    return (value << 8 ^ enters ^ t->leave[leaves]) ^ t->reduce[value >> (DEGREE - 8)];
}

static uint64_t digest_before(const Tables *t, const uint8_t *end)
{
    uint64_t value = 0;
    for (const uint8_t *p = end - WINDOW; p < end; p++)
        value = append(t, value, *p);
    return value;
}

static void fill_tables(Tables *t, uint64_t polynomial)
{
    for (uint64_t i = 0; i < 256; i++) {
        uint64_t value = i << DEGREE;
        for (int bit = DEGREE + 7; bit >= DEGREE; bit--)
            if (value >> bit & 1)
                value ^= polynomial << (bit - DEGREE);
        t->reduce[i] = value | i << DEGREE;
    }
    for (unsigned i = 0; i < 256; i++) {
        uint64_t value = append(t, 0, (uint8_t)i);
        for (int k = 0; k < WINDOW; k++)
            value = append(t, value, 0);
        t->leave[i] = value;
    }
}

/* Rolls over LANES stretches of `length` positions each. `data` points at the byte that the first position takes in:
 * the 65 bytes before the first tested position exist. Returns how many positions precede the first hit, or
 * LANES * length if there is none. */
INLINE size_t roll_lanes(const Tables *t, const uint8_t *data, size_t length, uint64_t mask)
{
    size_t hit[LANES] = {length, length, length, length, length};
    uint64_t d0 = 0, d1 = 0, d2 = 0, d3 = 0, d4 = 0;

#define ENTER(lane, digest) digest = append(t, digest, (data - WINDOW)[(lane) * length + i]);

    for (size_t i = 0; i < WINDOW; i++) {
        ENTER(0, d0)
        ENTER(1, d1)
        ENTER(2, d2)
        ENTER(3, d3)
        ENTER(4, d4)
    }
#undef ENTER

#define ROLL(lane, digest)                                                                     \
    digest = slide(t, digest, data[(lane) * length + i], (data - WINDOW)[(lane) * length + i]); \
    if (RARELY((digest & mask) == 0) && hit[lane] == length)                                   \
        hit[lane] = i;

    for (size_t i = 0; i < length; i++) {
        ROLL(0, d0)
        ROLL(1, d1)
        ROLL(2, d2)
        ROLL(3, d3)
        ROLL(4, d4)
    }
#undef ROLL
    for (size_t lane = 0; lane < LANES; lane++)
        if (hit[lane] < length)
            return lane * length + hit[lane];
    return LANES * length;
}

#ifdef HOLDFAST_WIDE
/* The same for t->lanes stretches of WIDE_LANE positions. */
static size_t roll_wide(const Tables *t, const uint8_t *data, uint64_t mask)
{
    uint64_t found[WIDE_BLOCKS];
    int any = t->lanes == 64 ? lanes_roll(&t->maps, data, WIDE_LANE, mask, found)
                             : lanes32_roll(&t->maps, data, WIDE_LANE, mask, found);
    for (size_t lane = 0; any && lane < t->lanes; lane++)
        for (size_t block = 0; block < WIDE_BLOCKS; block++) {
            if (!(found[block] >> lane & 1))
                continue;
            size_t at = lane * WIDE_LANE + block * WINDOW;
            uint64_t value = digest_before(t, data + at);
            for (size_t i = at; i < at + WINDOW; i++) {
                value = slide(t, value, data[i], (data - WINDOW)[i]);
                if ((value & mask) == 0)
                    return i;
            }
        }
    return t->lanes * WIDE_LANE;
}
#endif

/* The smallest length in from..to (from >= 64) at which `data` may be cut, or 0. Bytes up to data[to - 1] are read. */
static size_t first_cut(const Tables *t, const uint8_t *data, size_t from, size_t to, uint64_t mask)
{
    /* Tested alone: in a run of zeros every position is a hit, and such a chunk then costs 64 steps. */
    uint64_t value = digest_before(t, data + from);
    if ((value & mask) == 0)
        return from;
    size_t at = from;
#ifdef HOLDFAST_WIDE
    const size_t range = t->lanes * WIDE_LANE;
    for (; range != 0 && to - at >= range; at += range) {
        size_t before = roll_wide(t, data + at, mask);
        if (before < range)
            return at + before + 1;
    }
#endif
    for (; to - at >= (size_t)LANES * LONG_LANE; at += (size_t)LANES * LONG_LANE) {
        size_t before = roll_lanes(t, data + at, LONG_LANE, mask);
        if (before < (size_t)LANES * LONG_LANE)
            return at + before + 1;
    }
    for (; to - at >= (size_t)LANES * SHORT_LANE; at += (size_t)LANES * SHORT_LANE) {
        size_t before = roll_lanes(t, data + at, SHORT_LANE, mask);
        if (before < (size_t)LANES * SHORT_LANE)
            return at + before + 1;
    }
    value = digest_before(t, data + at);
    for (; at < to; at++) {
        value = slide(t, value, data[at], data[at - WINDOW]);
        if ((value & mask) == 0)
            return at + 1;
    }
    return 0;
}

typedef struct {
    size_t minimum, maximum;
    uint64_t mask;
} Rules;

static size_t cut_all(const Tables *t, const Rules *rules, const uint8_t *data, size_t size, size_t scanned, int final,
                      size_t *lengths)
{
    size_t count = 0;
    while (size >= rules->minimum) {
        size_t limit = size < rules->maximum ? size : rules->maximum;
        size_t from = scanned < rules->minimum ? rules->minimum : scanned + 1;
        size_t length = from <= limit ? first_cut(t, data, from, limit, rules->mask) : 0;
        if (length == 0) {
            if (limit < rules->maximum)
                break;
            length = limit;
        }
        lengths[count++] = length;
        data += length;
        size -= length;
        scanned = 0;
    }
    if (final && size > 0)
        lengths[count++] = size;
    return count;
}

PyObject *chunker_tables(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *number;
    int lanes = 64;
    if (!PyArg_ParseTuple(arguments, "O|i:tables", &number, &lanes))
        return NULL;
    unsigned long long polynomial = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred())
        return NULL;
    if (polynomial >> DEGREE != 1) {
        PyErr_SetString(PyExc_ValueError, "the polynomial must be of degree 53");
        return NULL;
    }
    Tables tables;
    memset(&tables, 0, sizeof tables);
    fill_tables(&tables, polynomial);
#ifdef HOLDFAST_WIDE
    const int features = processor_features();
    tables.lanes = lanes >= 64 && features & HAS_GFNI ? 64 : lanes >= 32 && features & HAS_AVX2 ? 32 : 0;
    lanes_fill(&tables.maps, tables.reduce, tables.leave);
#else
    (void)lanes;
#endif
    return PyBytes_FromStringAndSize((const char *)&tables, sizeof tables);
}

static PyObject *as_list(const size_t *lengths, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *number = PyLong_FromSize_t(lengths[i]);
        if (number == NULL || PyList_SetItem(list, (Py_ssize_t)i, number) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyObject *chunker_cuts(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer view;
    const char *table_bytes;
    Py_ssize_t table_size, scanned, minimum, maximum;
    unsigned long long mask;
    int final;
    PyObject *data, *list = NULL;

    if (!PyArg_ParseTuple(arguments, "y#OnpnnK:cuts", &table_bytes, &table_size, &data, &scanned, &final, &minimum,
                          &maximum, &mask))
        return NULL;
    if (table_size != sizeof(Tables) || minimum < WINDOW || maximum < minimum || scanned < 0) {
        PyErr_SetString(PyExc_ValueError, "need tables(), 64 <= minimum <= maximum and scanned >= 0");
        return NULL;
    }
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;

    size_t *lengths = PyMem_Malloc(((size_t)view.len / (size_t)minimum + 1) * sizeof *lengths);
    if (lengths == NULL) {
        PyErr_NoMemory();
    } else {
        Tables tables; /* a copy, because a bytes object promises no alignment */
        Rules rules = {(size_t)minimum, (size_t)maximum, mask};
        size_t count;
        memcpy(&tables, table_bytes, sizeof tables);
        Py_BEGIN_ALLOW_THREADS
        count = cut_all(&tables, &rules, view.buf, (size_t)view.len, (size_t)scanned, final, lengths);
        Py_END_ALLOW_THREADS
        list = as_list(lengths, count);
        PyMem_Free(lengths);
    }
    PyBuffer_Release(&view);
    return list;
}
