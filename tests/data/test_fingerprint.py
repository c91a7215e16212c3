"""Hashes of data: equal for equal arrays, different for all others."""

import hashlib

import numpy as np

from thinwire.data.fingerprint import fingerprint

A = np.arange(6, dtype=np.int32).reshape(2, 3)


def test_equal_arrays_agree():
    assert fingerprint(A) == fingerprint(A.copy()) == fingerprint(np.asfortranarray(A)) == fingerprint(A.astype(">i4"))
    assert len(fingerprint(A)) == 64


def test_others_do_not():
    changed = A.copy()
    changed[1, 2] += 1
    others = [fingerprint(*arrays) for arrays in [(changed,), (A.T,), (A.ravel(),), (A.astype(np.int64),), (A, A), ()]]
    assert len({fingerprint(A), *others}) == 7
    assert fingerprint(A[:1], A[1:]) != fingerprint(A[1:], A[:1])


def test_what_is_hashed_is_fixed():
    expected = hashlib.sha256(b"<i4 (2,);\x01\0\0\0\x02\0\0\0").hexdigest()
    assert fingerprint(np.array([1, 2], np.int32)) == expected
