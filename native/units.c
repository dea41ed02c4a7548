/* Sealing and opening many small units (AES-256-CTR with a Poly1305-AES tag) in one call without copies in between.
 *
 * OpenSSL is as fast on larger units and faster on huge ones; but each call of it costs about a microsecond and a unit
 * needs several, each with a Python object around it: 7 us for 300 bytes, here 0.6.
 *
 * Tags are compared without an early end; expanded keys are wiped.
 */
#include "cipher.h"

#include <string.h>

enum { KEY = 64, NONCE = 16, TAG = 16, OVERHEAD = NONCE + TAG };

#ifdef HOLDFAST_X86
/* Called through a volatile pointer, so that no compiler drops it as useless. */
static void *(*const volatile wipe)(void *, int, size_t) = memset;

static int differ(const uint8_t *left, const uint8_t *right)
{
    unsigned difference = 0;
    for (int i = 0; i < TAG; i++)
        difference |= (unsigned)(left[i] ^ right[i]);
    return difference != 0;
}

AES static int opens(const Keys *keys, const uint8_t *unit, size_t size)
{
    uint8_t tag[TAG];
    tag_of(keys, unit, unit + NONCE, size, tag);
    return !differ(tag, unit + NONCE + size);
}

/* Whether a unit gives its plaintext again: decrypted a piece at a time, so that the copy stays in the cache. */
AES static int gives(const Keys *keys, const uint8_t *unit, Bytes plain)
{
    uint8_t piece[4096];
    Counter counter = counter_from(unit);
    if (!opens(keys, unit, plain.size))
        return 0;
    for (size_t at = 0; at < plain.size; at += sizeof piece) {
        size_t take = plain.size - at < sizeof piece ? plain.size - at : sizeof piece;
        key_stream(keys->encrypt, counter_plus(counter, at / 16), unit + NONCE + at, piece, take);
        if (memcmp(piece, plain.data + at, take) != 0)
            return 0;
    }
    wipe(piece, 0, sizeof piece);
    return 1;
}

/* Every unit behind the other at `to`. Returns whether all of them, read back with keys expanded anew, are right. */
AES static int seal_all(const uint8_t *key, Counter counter, const Bytes *plain, size_t count, uint8_t *to)
{
    Keys keys[2];
    int good = 1;
    expand_keys(&keys[0], key);
    expand_keys(&keys[1], key);
    for (size_t i = 0; i < count; i++) {
        size_t size = plain[i].size, blocks = size / 16 + (size % 16 != 0);
        _mm_storeu_si128((__m128i *)(void *)to, counter_block(counter));
        key_stream(keys[0].encrypt, counter, plain[i].data, to + NONCE, size);
        tag_of(&keys[0], to, to + NONCE, size, to + NONCE + size);
        good = good && gives(&keys[1], to, plain[i]);
        counter = counter_plus(counter, blocks == 0 ? 1 : blocks);
        to += size + OVERHEAD;
    }
    wipe(keys, 0, sizeof keys);
    return good;
}

AES static void open_all(const uint8_t *key, const Bytes *units, size_t count, uint8_t **to)
{
    Keys keys;
    expand_keys(&keys, key);
    for (size_t i = 0; i < count; i++) {
        if (to[i] == NULL)
            continue;
        size_t size = units[i].size - OVERHEAD;
        if (opens(&keys, units[i].data, size))
            key_stream(keys.encrypt, counter_from(units[i].data), units[i].data + NONCE, to[i], size);
        else
            to[i] = NULL;
    }
    wipe(&keys, 0, sizeof keys);
}

/* Room for every plaintext; None, and no room, for what is too short or has no nonce. */
static PyObject *make_room(const Buffers *units, uint8_t **to)
{
    static const uint8_t no_nonce[NONCE] = {0};
    PyObject *list = PyList_New((Py_ssize_t)units->count);
    for (size_t i = 0; list != NULL && i < units->count; i++) {
        Bytes unit = units->items[i];
        PyObject *plain = NULL;
        to[i] = NULL;
        if (unit.size >= OVERHEAD && memcmp(unit.data, no_nonce, NONCE) != 0) {
            plain = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(unit.size - OVERHEAD));
            if (plain != NULL)
                to[i] = (uint8_t *)PyBytes_AsString(plain);
        } else {
            plain = Py_None;
            Py_INCREF(plain);
        }
        if (plain == NULL || PyList_SetItem(list, (Py_ssize_t)i, plain) < 0)
            Py_CLEAR(list);
    }
    return list;
}
#endif

static int has_aes(void)
{
    if (processor_features() & HAS_AES)
        return 1;
    PyErr_SetString(PyExc_NotImplementedError, "this processor has no AES instructions");
    return 0;
}

static int check_key(Py_ssize_t size)
{
    if (size == KEY)
        return 1;
    PyErr_SetString(PyExc_ValueError, "a key has 64 bytes: encrypt, k, r");
    return 0;
}

PyObject *units_seal(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *key, *nonce;
    Py_ssize_t key_size, nonce_size;
    PyObject *plaintexts, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y#y#O:seal", &key, &key_size, &nonce, &nonce_size, &plaintexts) ||
        !check_key(key_size) || !has_aes())
        return NULL;
    if (nonce_size != NONCE) {
        PyErr_SetString(PyExc_ValueError, "a nonce has 16 bytes");
        return NULL;
    }
#ifdef HOLDFAST_X86
    Buffers buffers;
    if (buffers_take(&buffers, plaintexts) < 0)
        return NULL;
    size_t size = 0;
    for (size_t i = 0; i < buffers.count; i++)
        size += buffers.items[i].size + OVERHEAD;
    if ((result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size)) != NULL) {
        uint8_t *to = (uint8_t *)PyBytes_AsString(result);
        int good;
        Py_BEGIN_ALLOW_THREADS
        good = seal_all((const uint8_t *)key, counter_from((const uint8_t *)nonce), buffers.items, buffers.count, to);
        Py_END_ALLOW_THREADS
        if (!good) {
            Py_DECREF(result);
            result = Py_None;
            Py_INCREF(result);
        }
    }
    buffers_release(&buffers);
#endif
    return result;
}

PyObject *units_open(PyObject *module, PyObject *arguments)
{
    (void)module;
    const char *key;
    Py_ssize_t key_size;
    PyObject *units, *list = NULL;
    if (!PyArg_ParseTuple(arguments, "y#O:unseal", &key, &key_size, &units) || !check_key(key_size) || !has_aes())
        return NULL;
#ifdef HOLDFAST_X86
    Buffers buffers;
    if (buffers_take(&buffers, units) < 0)
        return NULL;
    uint8_t **to = PyMem_Malloc((buffers.count + 1) * sizeof *to);
    if (to == NULL)
        PyErr_NoMemory();
    else if ((list = make_room(&buffers, to)) != NULL) {
        Py_BEGIN_ALLOW_THREADS
        open_all((const uint8_t *)key, buffers.items, buffers.count, to);
        Py_END_ALLOW_THREADS
        for (size_t i = 0; list != NULL && i < buffers.count; i++) {
            if (to[i] == NULL) {
                Py_INCREF(Py_None);
                if (PyList_SetItem(list, (Py_ssize_t)i, Py_None) < 0)
                    Py_CLEAR(list);
            }
        }
    }
    PyMem_Free(to);
    buffers_release(&buffers);
#endif
    return list;
}
