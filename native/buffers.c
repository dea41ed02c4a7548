/* What the functions on many items share: taking the items' memory from Python, and asking what the processor can do. */
#include "native.h"

#ifdef HOLDFAST_X86
#include <cpuid.h>
#endif

int buffers_take(Buffers *buffers, PyObject *sequence)
{
    Py_ssize_t count = PySequence_Size(sequence);
    if (count < 0)
        return -1;
    buffers->count = 0;
    buffers->items = PyMem_Malloc(((size_t)count + 1) * sizeof *buffers->items);
    buffers->views = PyMem_Malloc(((size_t)count + 1) * sizeof *buffers->views);
    if (buffers->items == NULL || buffers->views == NULL) {
        PyErr_NoMemory();
        buffers_release(buffers);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        int status = item == NULL ? -1 : PyObject_GetBuffer(item, &buffers->views[i], PyBUF_SIMPLE);
        Py_XDECREF(item); /* the view holds it */
        if (status < 0) {
            buffers_release(buffers);
            return -1;
        }
        buffers->items[i] = (Bytes){buffers->views[i].buf, (size_t)buffers->views[i].len};
        buffers->count++;
    }
    return 0;
}

void buffers_release(Buffers *buffers)
{
    for (size_t i = 0; i < buffers->count; i++)
        PyBuffer_Release(&buffers->views[i]);
    PyMem_Free(buffers->items);
    PyMem_Free(buffers->views);
}

#ifdef HOLDFAST_X86
/* Which registers the system keeps: XCR0 (Intel's manual, volume 1, chapter 13). */
static unsigned kept_registers(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}
#endif

int processor_features(void)
{
    static int known = -1; /* in a virtual machine, asking costs 25 microseconds */
    int found = 0;
    if (known >= 0)
        return known;
#ifdef HOLDFAST_X86
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        int vectors = (c >> 9 & 1) && (c >> 19 & 1); /* SSSE3 and SSE4.1: every processor with the others has them */
        int aes = c >> 25 & 1;
        unsigned kept = c >> 27 & 1 ? kept_registers() : 0;
        if (vectors && __get_cpuid_count(7, 0, &a, &b, &c, &d)) {
            if (aes && (b >> 8 & 1)) /* BMI2, for Poly1305's multiplications: since 2013, 2015 */
                found |= HAS_AES;
            if (b >> 29 & 1)
                found |= HAS_SHA;
            if ((kept & 0x06) == 0x06 && (b >> 5 & 1))
                found |= HAS_AVX2;
            if ((kept & 0xE6) == 0xE6 && (b >> 16 & 1) && (b >> 30 & 1) && (c >> 8 & 1))
                found |= HAS_GFNI;
        }
    }
#endif
    known = found;
    return found;
}

PyObject *processor_names(PyObject *module, PyObject *nothing)
{
    (void)module;
    (void)nothing;
    int found = processor_features() & (HAS_AES | HAS_SHA);
    if (found == (HAS_AES | HAS_SHA))
        return Py_BuildValue("(ss)", "aes", "sha");
    if (found == HAS_AES)
        return Py_BuildValue("(s)", "aes");
    return found == HAS_SHA ? Py_BuildValue("(s)", "sha") : PyTuple_New(0);
}
