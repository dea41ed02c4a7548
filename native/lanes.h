/* The fingerprint of chunker.c in 64 lanes: lanes.c, where compiler and processor can. */
#ifndef HOLDFAST_LANES_H
#define HOLDFAST_LANES_H

#include "native.h"

#if defined(HOLDFAST_X86) && (__GNUC__ >= 9 || __clang_major__ >= 9)
#define HOLDFAST_WIDE 1
#endif

/* Linear maps of a byte to the bytes of a digest: what it adds when it is pushed out at the top, leaves or enters. */
typedef struct {
    uint64_t top[7], leave[7], enter[2];
} Matrices;

/* From the tables of chunker.c. */
HIDDEN void lanes_fill(Matrices *matrices, const uint64_t *reduce, const uint64_t *leave);

enum { WIDE_LANES = 64 };

/* Rolls over 64 stretches of `length` positions each, a multiple of 64. `data` points at the byte that the first position
 * takes in; 64 bytes before it exist. found[i]: a bit for each stretch, whether one of the positions from 64 * i on may
 * have a digest without all bits of `mask` (only its lowest 21 are looked at). Returns whether any may. */
HIDDEN int lanes_roll(const Matrices *matrices, const uint8_t *data, size_t length, uint64_t mask, uint64_t *found);

#endif
