/* The fingerprint of chunker.c, rolled over many stretches of the data at once by vector units, where compiler and
 * processor have them: 64 by lanes.c, 32 by lanes32.c. */
#ifndef HOLDFAST_LANES_H
#define HOLDFAST_LANES_H

#include "native.h"

#if defined(HOLDFAST_X86) && (__GNUC__ >= 9 || __clang_major__ >= 9)
#define HOLDFAST_WIDE 1
#endif

enum { ENTER, TOP, LEAVE, DIGEST_BYTES = 7, DIGEST_SHIFT = DIGEST_BYTES * 8 - 53 };

/* Linear maps of a byte to the bytes of a digest that is shifted by DIGEST_SHIFT: what it adds when it enters, is pushed
 * out at the top, or leaves. As matrices for gf2p8affineqb, and as tables of what its lower and its higher half add. */
typedef struct {
    uint64_t matrix[3][DIGEST_BYTES];
    uint8_t halves[3][DIGEST_BYTES][2][16];
} Maps;

/* From the tables of chunker.c. */
HIDDEN void lanes_fill(Maps *maps, const uint64_t *reduce, const uint64_t *leave);

/* Rolls over 64 stretches (32: the second) of `length` positions each, a multiple of 64. `data` points at the byte that
 * the first position takes in; 64 bytes before it exist. found[i]: a bit for each stretch, whether one of its positions
 * from 64 * i on may have a digest without all bits of `mask` (only its lowest 21 are looked at). Returns whether any
 * may. */
HIDDEN int lanes_roll(const Maps *maps, const uint8_t *data, size_t length, uint64_t mask, uint64_t *found);
HIDDEN int lanes32_roll(const Maps *maps, const uint8_t *data, size_t length, uint64_t mask, uint64_t *found);

#endif
