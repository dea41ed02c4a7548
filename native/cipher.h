/* What units.c wants of cipher.c. Empty where there is no x86-64. */
#ifndef HOLDFAST_CIPHER_H
#define HOLDFAST_CIPHER_H

#include "native.h"

#ifdef HOLDFAST_X86
#include <immintrin.h>

/* For functions that run only where processor_features() has HAS_AES. */
#define AES __attribute__((target("aes,sse4.1,ssse3,bmi2")))

enum { ROUNDS_128 = 10, ROUNDS_256 = 14, POWERS = 4 };

/* A counter of 128 bits, as CTR mode counts: the block is the number, most significant byte first. */
typedef struct {
    uint64_t high, low;
} Counter;

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

/* A number modulo 2^130 - 5 in limbs of 44, 44 and 42 bits. `x20` holds the upper ones times 20: 2^132 is 20. */
typedef struct {
    uint64_t limb[3], x20[3];
} Factor;

typedef struct {
    __m128i encrypt[ROUNDS_256 + 1], mask[ROUNDS_128 + 1];
    Factor power[POWERS]; /* of r */
} Keys;

HIDDEN Counter counter_from(const uint8_t *bytes);

/* From the 64 bytes of a master key: encrypt, k, r. */
HIDDEN void expand_keys(Keys *keys, const uint8_t *key);

/* Encrypts or decrypts with AES-256-CTR; `from` and `to` may be the same. */
HIDDEN void key_stream(const __m128i *round, Counter counter, const uint8_t *from, uint8_t *to, size_t size);

/* The Poly1305-AES tag, 16 bytes. */
HIDDEN void tag_of(const Keys *keys, const uint8_t *nonce, const uint8_t *body, size_t size, uint8_t *tag);
#endif

#endif
