/* Sealing and opening many small units: AES-256-CTR with a Poly1305-AES tag, on x86-64 processors with AES instructions.
 *
 * OpenSSL is as fast on large units and faster on huge ones; but each call of it costs about a microsecond and a unit
 * needs several, each with a Python object around it. Here a batch is one call without copies in between.
 *
 * Nothing branches on, or indexes by, key, plaintext or tag: the AES instructions take constant time, Poly1305 is made
 * of multiplications and additions, tags are compared without an early end. Expanded keys are wiped.
 */
#include "native.h"

#include <string.h>

enum { KEY = 64, NONCE = 16, TAG = 16, OVERHEAD = NONCE + TAG };

#ifdef HOLDFAST_X86
#include <immintrin.h>

#define AES __attribute__((target("aes,sse4.1,ssse3")))

/* Called through a volatile pointer, so that no compiler drops it as useless. */
static void *(*const volatile wipe)(void *, int, size_t) = memset;

/* -- AES (FIPS 197) ----------------------------------------------------------------------------------------------- */

enum { ROUNDS_128 = 10, ROUNDS_256 = 14, WIDE = 8 };

AES INLINE __m128i mix_key(__m128i key, __m128i assist)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, assist);
}

AES static void expand_128(const uint8_t *key, __m128i *round)
{
    round[0] = _mm_loadu_si128((const __m128i *)(const void *)key);
#define NEXT(i, constant) \
    round[i] = mix_key(round[(i) - 1], _mm_shuffle_epi32(_mm_aeskeygenassist_si128(round[(i) - 1], constant), 0xff));
    NEXT(1, 0x01) NEXT(2, 0x02) NEXT(3, 0x04) NEXT(4, 0x08) NEXT(5, 0x10)
    NEXT(6, 0x20) NEXT(7, 0x40) NEXT(8, 0x80) NEXT(9, 0x1b) NEXT(10, 0x36)
#undef NEXT
}

AES static void expand_256(const uint8_t *key, __m128i *round)
{
    round[0] = _mm_loadu_si128((const __m128i *)(const void *)key);
    round[1] = _mm_loadu_si128((const __m128i *)(const void *)(key + 16));
#define EVEN(i, constant) \
    round[i] = mix_key(round[(i) - 2], _mm_shuffle_epi32(_mm_aeskeygenassist_si128(round[(i) - 1], constant), 0xff));
#define ODD(i) round[i] = mix_key(round[(i) - 2], _mm_shuffle_epi32(_mm_aeskeygenassist_si128(round[(i) - 1], 0), 0xaa));
    EVEN(2, 0x01) ODD(3) EVEN(4, 0x02) ODD(5) EVEN(6, 0x04) ODD(7) EVEN(8, 0x08) ODD(9)
    EVEN(10, 0x10) ODD(11) EVEN(12, 0x20) ODD(13) EVEN(14, 0x40)
#undef EVEN
#undef ODD
}

AES INLINE __m128i encrypt_block(const __m128i *round, int rounds, __m128i block)
{
    block = _mm_xor_si128(block, round[0]);
    for (int i = 1; i < rounds; i++)
        block = _mm_aesenc_si128(block, round[i]);
    return _mm_aesenclast_si128(block, round[rounds]);
}

/* A counter of 128 bits, as CTR mode counts: the block is the number, most significant byte first. */
typedef struct {
    uint64_t high, low;
} Counter;

static Counter counter_from(const uint8_t *bytes)
{
    Counter counter = {0, 0};
    for (int i = 0; i < 8; i++) {
        counter.high = counter.high << 8 | bytes[i];
        counter.low = counter.low << 8 | bytes[8 + i];
    }
    return counter;
}

INLINE Counter counter_plus(Counter counter, uint64_t blocks)
{
    Counter sum = {counter.high, counter.low + blocks};
    sum.high += sum.low < blocks;
    return sum;
}

AES INLINE __m128i counter_block(Counter counter)
{
    return _mm_set_epi64x((long long)__builtin_bswap64(counter.low), (long long)__builtin_bswap64(counter.high));
}

/* Encrypts or decrypts; `from` and `to` may be the same. */
AES static void key_stream(const __m128i *round, Counter counter, const uint8_t *from, uint8_t *to, size_t size)
{
    for (; size >= WIDE * 16; size -= WIDE * 16, from += WIDE * 16, to += WIDE * 16) {
        __m128i block[WIDE];
        for (unsigned k = 0; k < WIDE; k++)
            block[k] = _mm_xor_si128(counter_block(counter_plus(counter, k)), round[0]);
        for (int i = 1; i < ROUNDS_256; i++)
            for (int k = 0; k < WIDE; k++)
                block[k] = _mm_aesenc_si128(block[k], round[i]);
        for (int k = 0; k < WIDE; k++) {
            __m128i text = _mm_loadu_si128((const __m128i *)(const void *)(from + 16 * k));
            block[k] = _mm_aesenclast_si128(block[k], round[ROUNDS_256]);
            _mm_storeu_si128((__m128i *)(void *)(to + 16 * k), _mm_xor_si128(block[k], text));
        }
        counter = counter_plus(counter, WIDE);
    }
    while (size > 0) {
        uint8_t stream[16];
        size_t take = size < 16 ? size : 16;
        _mm_storeu_si128((__m128i *)(void *)stream, encrypt_block(round, ROUNDS_256, counter_block(counter)));
        for (size_t i = 0; i < take; i++)
            to[i] = from[i] ^ stream[i];
        counter = counter_plus(counter, 1);
        from += take;
        to += take;
        size -= take;
    }
}

/* -- Poly1305 (RFC 8439, section 2.5) with r fixed for all messages ------------------------------------------------- */

/* Numbers modulo 2^130 - 5 in limbs of 44, 44 and 42 bits. `x20` holds the upper limbs times 20: 2^132 is 20. */
typedef unsigned __int128 Wide;

typedef struct {
    uint64_t limb[3], x20[3];
} Factor;

enum { POWERS = 4 };

#define LIMB ((UINT64_C(1) << 44) - 1)
#define TOP ((UINT64_C(1) << 42) - 1)

static uint64_t load64(const uint8_t *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value); /* x86 is little-endian, as Poly1305 is */
    return value;
}

typedef struct {
    Wide d0, d1, d2;
} Sum;

/* sum += (a0, a1, a2) * factor. Limbs below 2^46 and four products at most: everything stays below 2^102. */
INLINE void multiply_add(Sum *sum, uint64_t a0, uint64_t a1, uint64_t a2, const Factor *f)
{
    sum->d0 += (Wide)a0 * f->limb[0] + (Wide)a1 * f->x20[2] + (Wide)a2 * f->x20[1];
    sum->d1 += (Wide)a0 * f->limb[1] + (Wide)a1 * f->limb[0] + (Wide)a2 * f->x20[2];
    sum->d2 += (Wide)a0 * f->limb[2] + (Wide)a1 * f->limb[1] + (Wide)a2 * f->limb[0];
}

/* Back to limbs, the lowest two of at most 44 bits and a little. */
INLINE void carry(Sum sum, uint64_t *h)
{
    sum.d1 += (uint64_t)(sum.d0 >> 44);
    sum.d2 += (Wide)(sum.d1 >> 44);
    h[0] = (uint64_t)sum.d0 & LIMB;
    h[1] = (uint64_t)sum.d1 & LIMB;
    h[2] = (uint64_t)sum.d2 & TOP;
    Wide over = (sum.d2 >> 42) * 5 + h[0];
    h[0] = (uint64_t)over & LIMB;
    h[1] += (uint64_t)(over >> 44);
}

static void set_factor(Factor *factor, const uint64_t *h)
{
    for (int i = 0; i < 3; i++) {
        factor->limb[i] = h[i];
        factor->x20[i] = h[i] * 20;
    }
}

static void powers_of(const uint8_t *r, Factor *power)
{
    uint64_t low = load64(r) & UINT64_C(0x0ffffffc0fffffff), high = load64(r + 8) & UINT64_C(0x0ffffffc0ffffffc);
    uint64_t h[3] = {low & LIMB, (low >> 44 | high << 20) & LIMB, high >> 24};
    set_factor(&power[0], h);
    for (int i = 1; i < POWERS; i++) {
        Sum sum = {0, 0, 0};
        multiply_add(&sum, h[0], h[1], h[2], &power[0]);
        carry(sum, h);
        set_factor(&power[i], h);
    }
}

INLINE void absorb(Sum *sum, const uint8_t *block, uint64_t bit_128, const uint64_t *h, const Factor *factor)
{
    uint64_t low = load64(block), high = load64(block + 8);
    multiply_add(sum, h[0] + (low & LIMB), h[1] + ((low >> 44 | high << 20) & LIMB), h[2] + (high >> 24 | bit_128),
                 factor);
}

static void poly1305(const Factor *power, const uint8_t *mask, const uint8_t *data, size_t size, uint8_t *tag)
{
    const uint64_t bit_128 = UINT64_C(1) << 40; /* of the upper limb */
    static const uint64_t nothing[3] = {0, 0, 0};
    uint64_t h[3] = {0, 0, 0};
    /* Four blocks with one reduction: their products do not wait for each other. */
    for (; size >= 64; size -= 64, data += 64) {
        Sum sum = {0, 0, 0};
        absorb(&sum, data, bit_128, h, &power[3]);
        absorb(&sum, data + 16, bit_128, nothing, &power[2]);
        absorb(&sum, data + 32, bit_128, nothing, &power[1]);
        absorb(&sum, data + 48, bit_128, nothing, &power[0]);
        carry(sum, h);
    }
    for (; size > 0;) {
        uint8_t last[16] = {0};
        size_t take = size < 16 ? size : 16;
        Sum sum = {0, 0, 0};
        memcpy(last, data, take);
        if (take < 16)
            last[take] = 1;
        absorb(&sum, last, take < 16 ? 0 : bit_128, h, &power[0]);
        carry(sum, h);
        size -= take;
        data += take;
    }
    /* To the only representative below 2^130 - 5: carry through twice, then add 5 and look whether that reaches 2^130. */
    for (int pass = 0; pass < 2; pass++) {
        h[1] += h[0] >> 44;
        h[2] += h[1] >> 44;
        h[0] = (h[0] & LIMB) + (h[2] >> 42) * 5;
        h[1] &= LIMB;
        h[2] &= TOP;
    }
    h[1] += h[0] >> 44;
    h[0] &= LIMB;
    uint64_t g0 = h[0] + 5, g1 = h[1] + (g0 >> 44), g2 = h[2] + (g1 >> 44);
    uint64_t reached = 0 - (g2 >> 42); /* all ones or all zeros */
    h[0] = (h[0] & ~reached) | (g0 & LIMB & reached);
    h[1] = (h[1] & ~reached) | (g1 & LIMB & reached);
    h[2] = (h[2] & ~reached) | (g2 & TOP & reached);
    uint64_t low = h[0] | h[1] << 44, high = h[1] >> 20 | h[2] << 24;
    Wide sum = ((Wide)high << 64 | low) + ((Wide)load64(mask + 8) << 64 | load64(mask));
    low = (uint64_t)sum;
    high = (uint64_t)(sum >> 64);
    memcpy(tag, &low, 8);
    memcpy(tag + 8, &high, 8);
}

/* -- units --------------------------------------------------------------------------------------------------------- */

typedef struct {
    __m128i encrypt[ROUNDS_256 + 1], mask[ROUNDS_128 + 1];
    Factor power[POWERS];
} Keys;

/* The 64 bytes of a master key: encrypt, k, r. */
AES static void expand(Keys *keys, const uint8_t *key)
{
    expand_256(key, keys->encrypt);
    expand_128(key + 32, keys->mask);
    powers_of(key + 48, keys->power);
}

AES static void tag_of(const Keys *keys, const uint8_t *nonce, const uint8_t *body, size_t size, uint8_t *tag)
{
    uint8_t mask[16];
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)nonce);
    _mm_storeu_si128((__m128i *)(void *)mask, encrypt_block(keys->mask, ROUNDS_128, block));
    poly1305(keys->power, mask, body, size, tag);
}

static int differ(const uint8_t *left, const uint8_t *right)
{
    return ((load64(left) ^ load64(right)) | (load64(left + 8) ^ load64(right + 8))) != 0;
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
    expand(&keys[0], key);
    expand(&keys[1], key);
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
    expand(&keys, key);
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
