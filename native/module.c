/* The one extension module, optional: what is too slow in Python (chunker, files, ids) or in OpenSSL, or has to be called
 * too often there (scrypt, sha256, units, crc64). */
#include "native.h"

static PyMethodDef methods[] = {
    {"tables", chunker_tables, METH_VARARGS,
     "tables(polynomial, lanes=64) -> bytes: lookup tables for cuts(), of this machine only; lanes: how many its vector units "
     "may use (64, 32, 0), for the same cuts."},
    {"cuts", chunker_cuts, METH_VARARGS,
     "cuts(tables, data, scanned, final, minimum, maximum, mask) -> list of chunk lengths from the front of data."},
    {"crc64", crc64, METH_VARARGS, "crc64(data, crc) -> int: the checksum of Redis' dumps, gone on with from crc."},
    {"romix", scrypt_romix, METH_VARARGS,
     "romix(blocks, n, r) -> bytes: scrypt's ROMix of one or two blocks of 128 * r bytes each."},
    {"pack", files_pack, METH_O,
     "pack(items) -> bytes: what stat says of all (name, Stat), to be hashed; None if a stat is of another type."},
    {"survey", survey, METH_VARARGS,
     "survey(dir_fd, with_names) -> (packed, files, folders, linked, regular, size): what pack() makes of all entries but "
     "sockets, in byte order; with_names: the names of files, and (name, device, inode) of directories; whether a file has "
     "several names; how many regular files, and their bytes. None if a time does not fit."},
    {"clear", clear, METH_VARARGS,
     "clear(dir_fd) -> list of names: unlinks all that is no directory, and returns the directories."},
    {"unpack", files_unpack, METH_O,
     "unpack(packed) -> list of (name, Stat): what pack() was given, directories without size and links."},
    {"settled", nodes_settled, METH_VARARGS,
     "settled(tree, packed, owner, offset_at) -> list: for each record of pack() the node that tree has of a regular file, "
     "if it is what we would write but for attributes and content, else None; None for a tree unlike restic's. "
     "owner(uid, gid) -> bytes: those fields of a node; offset_at(seconds) -> int: the zone's offset."},
    {"files", nodes_files, METH_VARARGS,
     "files(packed, ids, owner, offset_at) -> list: for each record of pack() the node of that regular file, which consists "
     "of the one blob of ids at its place and has no attributes; None if it is another or its name is unusual."},
    {"read_small", files_read_small, METH_VARARGS,
     "read_small(dir_fd, name, size) -> (data, Stat, has_xattrs): open, read, fstat, close."},
    {"compare", compare, METH_VARARGS,
     "compare(fd, at, data, path, size, mtime_ns) -> int: 0 unless the file holds data there; 1 without a path; else of "
     "the original at path 2: gone or changed, 3: it holds data there too, 4: it does not."},
    {"write_small", files_write_small, METH_VARARGS,
     "write_small(dir_fd, temporary, name, data, mode, uid, gid, must_own, atime_ns, mtime_ns) -> int: the inode of the "
     "new file, complete and renamed (an empty name: not renamed); 0 if anything did not work, and nothing is left."},
    {"copy_small", files_copy_small, METH_VARARGS,
     "copy_small(source_fd, target_fd, must_own, files) -> list of (digest, inode): read_small, sha256 and write_small of "
     "(source, temporary, name, listed, size, mode, uid, gid, atime_ns, mtime_ns, digest); listed and digest may be empty; "
     "None for what is not so, has attributes or perhaps holes, or cannot be made."},
    {"copy_listed", files_copy_listed, METH_VARARGS,
     "copy_listed(source_fd, target_fd, must_own, mask, prefix, packed) -> ({name: (stamp, digest)}, size): the same of "
     "regular files as their records say, without the mode bits of mask; prefix: of temporary names; what is missing was "
     "not copied."},
    {"rows", mirror_rows, METH_VARARGS,
     "rows(packed, sides) -> (rows, files, size): for each record whose name is in sides, a dict of (stamp, hash), what the "
     "index of a mirror remembers; how many regular files these are, and their bytes."},
    {"sync", files_sync, METH_O,
     "sync(fd) -> bool: returns when the file system of an open file is on the medium; False where there is no such call."},
    {"processor", processor_names, METH_NOARGS,
     "processor() -> tuple of str: which of 'aes' (for seal, unseal) and 'sha' (for sha256) this processor has."},
    {"sha256", sha256_each, METH_O, "sha256(messages) -> list of digests."},
    {"add_id", ids_add, METH_VARARGS,
     "add_id(log, small, large, taken, cursor, id) -> bool: whether a set in shared memory did not have it."},
    {"seal", units_seal, METH_VARARGS,
     "seal(key, nonce, plaintexts) -> bytes: the sealed units back to back; None if they do not open again."},
    {"unseal", units_open, METH_VARARGS,
     "unseal(key, units) -> list: each one's plaintext, or None where the tag does not match."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)files_exec}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "What Python is too slow for: chunk boundaries, scrypt's lanes, stat and read of many files, "
             "hashing and sealing of many small items.",
    .m_size = FILES_STATE_SIZE,
    .m_free = files_free,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
