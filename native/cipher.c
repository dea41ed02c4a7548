/* AES-128 and AES-256 in counter mode (FIPS 197, SP 800-38A) and Poly1305 (RFC 8439) on x86-64 with AES instructions.
 *
 * Nothing branches on, or indexes by, key, plaintext or tag: the AES instructions take constant time, Poly1305 is made
 * of multiplications and additions.
 */
#include "cipher.h"

#include <string.h>

#ifdef HOLDFAST_X86

/* -- AES (FIPS 197) ----------------------------------------------------------------------------------------------- */

enum { WIDE = 8 };

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

Counter counter_from(const uint8_t *bytes)
{
    Counter counter = {0, 0};
    for (int i = 0; i < 8; i++) {
        counter.high = counter.high << 8 | bytes[i];
        counter.low = counter.low << 8 | bytes[8 + i];
    }
    return counter;
}

AES void key_stream(const __m128i *round, Counter counter, const uint8_t *from, uint8_t *to, size_t size)
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
AES INLINE void multiply_add(Sum *sum, uint64_t a0, uint64_t a1, uint64_t a2, const Factor *f)
{
    sum->d0 += (Wide)a0 * f->limb[0] + (Wide)a1 * f->x20[2] + (Wide)a2 * f->x20[1];
    sum->d1 += (Wide)a0 * f->limb[1] + (Wide)a1 * f->limb[0] + (Wide)a2 * f->x20[2];
    sum->d2 += (Wide)a0 * f->limb[2] + (Wide)a1 * f->limb[1] + (Wide)a2 * f->limb[0];
}

/* Back to limbs, the lowest two of at most 44 bits and a little. */
AES INLINE void carry(Sum sum, uint64_t *h)
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

AES static void set_factor(Factor *factor, const uint64_t *h)
{
    for (int i = 0; i < 3; i++) {
        factor->limb[i] = h[i];
        factor->x20[i] = h[i] * 20;
    }
}

AES static void powers_of(const uint8_t *r, Factor *power)
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

AES INLINE void absorb(Sum *sum, const uint8_t *block, uint64_t bit_128, const uint64_t *h, const Factor *factor)
{
    uint64_t low = load64(block), high = load64(block + 8);
    multiply_add(sum, h[0] + (low & LIMB), h[1] + ((low >> 44 | high << 20) & LIMB), h[2] + (high >> 24 | bit_128),
                 factor);
}

AES static void poly1305(const Factor *power, const uint8_t *mask, const uint8_t *data, size_t size, uint8_t *tag)
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

AES void expand_keys(Keys *keys, const uint8_t *key)
{
    expand_256(key, keys->encrypt);
    expand_128(key + 32, keys->mask);
    powers_of(key + 48, keys->power);
}

AES void tag_of(const Keys *keys, const uint8_t *nonce, const uint8_t *body, size_t size, uint8_t *tag)
{
    uint8_t mask[16];
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)nonce);
    _mm_storeu_si128((__m128i *)(void *)mask, encrypt_block(keys->mask, ROUNDS_128, block));
    poly1305(keys->power, mask, body, size, tag);
}
#endif
