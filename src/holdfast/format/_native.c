/* The one extension module, optional: what is too slow in Python (chunker) or in OpenSSL (keyfile). */
#include "_native.h"

static PyMethodDef methods[] = {
    {"tables", chunker_tables, METH_O, "tables(polynomial) -> bytes: lookup tables for cuts(), of this machine only."},
    {"cuts", chunker_cuts, METH_VARARGS,
     "cuts(tables, data, scanned, final, minimum, maximum, mask) -> list of chunk lengths from the front of data."},
    {"romix", scrypt_romix, METH_VARARGS,
     "romix(blocks, n, r) -> bytes: scrypt's ROMix of one or two blocks of 128 * r bytes each."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Rabin chunk boundaries and scrypt's ROMix in C; use holdfast.format.chunker and holdfast.format.keyfile.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
