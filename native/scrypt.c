/* scrypt's ROMix (RFC 7914, sections 3 to 5), two independent blocks at a time.
 *
 * Salsa20/8 is one long chain of dependent additions, xors and rotations: a core spends most of its time waiting for
 * the step before. Two chains side by side fill each other's gaps: 32 ms a block instead of 50 at N=32768, r=8
 * (OpenSSL: 80 to 90).
 *
 * The sixteen words of a Salsa20 state are kept as the four diagonals of its 4x4 matrix, because then one vector
 * operation does the same step of all four quarter rounds, and going from columns to rows is a rotation within vectors.
 * Words are reordered once on the way in and once on the way out; in between there is no byte order.
 */
#include "native.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

/* Row: four words. TURN(row, k) moves word k of it to the front. */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(HOLDFAST_PLAIN_C) && \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
typedef uint32_t Row __attribute__((vector_size(16)));
#define ADD(x, y) ((x) + (y))
#define XOR(x, y) ((x) ^ (y))
#define ROTATE(x, bits) ((x) << (bits) | (x) >> (32 - (bits)))
#if defined(__clang__)
#define TURN(x, k) __builtin_shufflevector(x, x, (k), ((k) + 1) & 3, ((k) + 2) & 3, ((k) + 3) & 3)
#else
#define TURN(x, k) __builtin_shuffle(x, (Row){(k), ((k) + 1) & 3, ((k) + 2) & 3, ((k) + 3) & 3})
#endif
#else
typedef struct {
    uint32_t word[4];
} Row;

INLINE Row ADD(Row x, Row y)
{
    for (int i = 0; i < 4; i++)
        x.word[i] += y.word[i];
    return x;
}

INLINE Row XOR(Row x, Row y)
{
    for (int i = 0; i < 4; i++)
        x.word[i] ^= y.word[i];
    return x;
}

INLINE Row ROTATE(Row x, int bits)
{
    for (int i = 0; i < 4; i++)
        x.word[i] = x.word[i] << bits | x.word[i] >> (32 - bits);
    return x;
}

INLINE Row TURN(Row x, int k)
{
    Row turned = {{x.word[k], x.word[(k + 1) & 3], x.word[(k + 2) & 3], x.word[(k + 3) & 3]}};
    return turned;
}
#endif

typedef struct {
    Row a, b, c, d;
} State; /* the diagonals that begin with the words 0, 4, 8 and 12: the four places of a column's quarter round */

enum { STATE = sizeof(State), HUGE_PAGE = 2 << 20 };

/* Where the words of a state stand in the 64 bytes: (0, 5, 10, 15), (4, 9, 14, 3), (8, 13, 2, 7), (12, 1, 6, 11). */
#define WORD_AT(i) (((i) / 4 * 4 + (i) % 4 * 5) % 16)

static void load_state(State *state, const uint8_t *bytes)
{
    uint32_t words[16];
    for (size_t i = 0; i < 16; i++) {
        const uint8_t *p = bytes + 4 * WORD_AT(i);
        words[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    }
    memcpy(state, words, sizeof *state);
}

static void store_state(uint8_t *bytes, const State *state)
{
    uint32_t words[16];
    memcpy(words, state, sizeof words);
    for (size_t i = 0; i < 16; i++)
        for (size_t byte = 0; byte < 4; byte++)
            bytes[4 * WORD_AT(i) + byte] = (uint8_t)(words[i] >> 8 * byte);
}

INLINE void xor_state(State *s, const State *other)
{
    s->a = XOR(s->a, other->a);
    s->b = XOR(s->b, other->b);
    s->c = XOR(s->c, other->c);
    s->d = XOR(s->d, other->d);
}

INLINE void add_state(State *s, const State *other)
{
    s->a = ADD(s->a, other->a);
    s->b = ADD(s->b, other->b);
    s->c = ADD(s->c, other->c);
    s->d = ADD(s->d, other->d);
}

/* Both chains take each step together; `two` is a constant wherever this is called. */
#define STEP(target, left, right, bits)                                         \
    x.target = XOR(x.target, ROTATE(ADD(x.left, x.right), bits));               \
    if (two)                                                                    \
        y.target = XOR(y.target, ROTATE(ADD(y.left, y.right), bits));

#define TURN_ALL(for_b, for_d)                                                  \
    x.b = TURN(x.b, for_b);                                                     \
    x.c = TURN(x.c, 2);                                                         \
    x.d = TURN(x.d, for_d);                                                     \
    if (two) {                                                                  \
        y.b = TURN(y.b, for_b);                                                 \
        y.c = TURN(y.c, 2);                                                     \
        y.d = TURN(y.d, for_d);                                                 \
    }

INLINE void salsa20_8(State *first, State *second, int two)
{
    State x = *first, y = *second;
    for (int i = 0; i < 4; i++) {
        STEP(b, a, d, 7) STEP(c, b, a, 9) STEP(d, c, b, 13) STEP(a, d, c, 18)
        TURN_ALL(3, 1) /* the rows: b and d change roles */
        STEP(d, a, b, 7) STEP(c, d, a, 9) STEP(b, c, d, 13) STEP(a, b, c, 18)
        TURN_ALL(1, 3)
    }
    add_state(first, &x);
    if (two)
        add_state(second, &y);
}

typedef struct {
    State *table;   /* n blocks */
    State *block;   /* the block that is mixed */
    State *scratch; /* where the next one is made */
} Lane;

/* scryptBlockMix of `x` into `to_x`, and of `y` into `to_y`; if `xored`, of x ^ vx and y ^ vy. Nothing overlaps. */
INLINE void block_mix(const State *x, const State *vx, State *to_x, const State *y, const State *vy, State *to_y,
                      size_t count, int xored, int two)
{
    State s = x[count - 1], t = y[count - 1];
    if (xored) {
        xor_state(&s, &vx[count - 1]);
        if (two)
            xor_state(&t, &vy[count - 1]);
    }
    for (size_t i = 0; i < count; i++) {
        size_t to = i / 2 + (i & 1) * (count / 2);
        xor_state(&s, &x[i]);
        if (xored)
            xor_state(&s, &vx[i]);
        if (two) {
            xor_state(&t, &y[i]);
            if (xored)
                xor_state(&t, &vy[i]);
        }
        salsa20_8(&s, &t, two);
        to_x[to] = s;
        if (two)
            to_y[to] = t;
    }
}

/* Integerify: the first two words of the last 64 bytes. The first leads the diagonal a, the second is in d. */
INLINE const State *choose(const Lane *lane, const State *block, size_t n, size_t count)
{
    uint32_t a[4], d[4];
    memcpy(a, &block[count - 1].a, sizeof a);
    memcpy(d, &block[count - 1].d, sizeof d);
    return lane->table + (size_t)(((uint64_t)d[1] << 32 | a[0]) & (n - 1)) * count;
}

INLINE void mix(Lane p, Lane q, size_t n, size_t count, int two)
{
    memcpy(p.table, p.block, count * STATE);
    if (two)
        memcpy(q.table, q.block, count * STATE);
    for (size_t i = 1; i < n; i++) {
        const State *x = p.table + (i - 1) * count, *y = q.table + (i - 1) * count;
        block_mix(x, NULL, p.table + i * count, y, NULL, q.table + i * count, count, 0, two);
    }
    block_mix(p.table + (n - 1) * count, NULL, p.block, q.table + (n - 1) * count, NULL, q.block, count, 0, two);
    for (size_t i = 0; i < n; i++) { /* n is even: the last one ends in `block` */
        const State *vx = choose(&p, p.block, n, count), *vy = two ? choose(&q, q.block, n, count) : vx;
        block_mix(p.block, vx, p.scratch, q.block, vy, q.scratch, count, 1, two);
        State *made = p.scratch, *other = q.scratch;
        p.scratch = p.block;
        q.scratch = q.block;
        p.block = made;
        q.block = other;
    }
}

static void mix_one(const Lane *lane, size_t n, size_t count)
{
    mix(*lane, *lane, n, count, 0);
}

static void mix_two(const Lane *lanes, size_t n, size_t count)
{
    mix(lanes[0], lanes[1], n, count, 1);
}

/* Called through a volatile pointer, so that no compiler drops it as useless before free(). */
static void *(*const volatile wipe)(void *, int, size_t) = memset;

/* Mixes `lanes` (1 or 2) blocks of `count` states from `from` to `to`; 0, or -1 if there is not enough memory. */
static int romix(const uint8_t *from, uint8_t *to, size_t n, size_t count, size_t lanes)
{
    size_t block = count * STATE, each = (n + 2) * block, size = lanes * each;
    char *memory = malloc(size + HUGE_PAGE);
    if (memory == NULL)
        return -1;
    /* Whole huge pages: 8,000 page faults less, and random reads find their addresses: 50 ms a block instead of 65. */
    char *start = memory + (HUGE_PAGE - (uintptr_t)memory % HUGE_PAGE);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (size >= HUGE_PAGE)
        (void)madvise(start, size - size % HUGE_PAGE, MADV_HUGEPAGE); /* advice: refused is as good as absent */
#endif
    Lane lane[2];
    for (size_t k = 0; k < lanes; k++) {
        State *table = (State *)(void *)(start + k * each);
        lane[k] = (Lane){table, table + n * count, table + (n + 1) * count};
        for (size_t i = 0; i < count; i++)
            load_state(&lane[k].block[i], from + k * block + i * STATE);
    }
    if (lanes == 2)
        mix_two(lane, n, count);
    else
        mix_one(lane, n, count);
    for (size_t k = 0; k < lanes; k++)
        for (size_t i = 0; i < count; i++)
            store_state(to + k * block + i * STATE, &lane[k].block[i]);
    wipe(start, 0, size);
    free(memory);
    return 0;
}

/* Whether the tables of two lanes, and what is added to them, can be counted in bytes. */
static int countable(size_t n, size_t r)
{
    const size_t most = (size_t)PTRDIFF_MAX / 4;
    return n < most && r < most / 128 && n + 2 <= most / (128 * r);
}

PyObject *scrypt_romix(PyObject *module, PyObject *arguments)
{
    (void)module;
    Py_buffer view;
    Py_ssize_t n, r;
    if (!PyArg_ParseTuple(arguments, "y*nn:romix", &view, &n, &r))
        return NULL;

    PyObject *result = NULL;
    size_t length = (size_t)view.len;
    if (n < 2 || (n & (n - 1)) != 0 || r < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be a power of two above 1, and r at least 1");
    } else if (length % 128 != 0 || (length / 128 != (size_t)r && (length % 256 != 0 || length / 256 != (size_t)r))) {
        PyErr_SetString(PyExc_ValueError, "need one or two blocks of 128 * r bytes");
    } else if (!countable((size_t)n, (size_t)r)) {
        PyErr_NoMemory();
    } else if ((result = PyBytes_FromStringAndSize(NULL, view.len)) != NULL) {
        uint8_t *to = (uint8_t *)PyBytes_AsString(result);
        int status;
        Py_BEGIN_ALLOW_THREADS
        status = romix(view.buf, to, (size_t)n, (size_t)r * 2, length / 128 / (size_t)r);
        Py_END_ALLOW_THREADS
        if (status < 0) {
            Py_DECREF(result);
            result = PyErr_NoMemory();
        }
    }
    PyBuffer_Release(&view);
    return result;
}
