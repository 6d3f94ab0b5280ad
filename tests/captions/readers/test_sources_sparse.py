"""Sparse files in WebDataset shards: their bytes in the archive are not the file's."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from synthvlm.captions.readers.sources import read_captions, read_images


def test_a_sparse_image_is_a_problem_of_its_row(tmp_path: Path) -> None:
    # As GNU tar writes it (--format=posix --sparse-version=0.1): 512 bytes of a file of 8,192.
    headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": "8192", "GNU.sparse.numblocks": "1"}
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, pax in (
            ("a.jpg", b"\1" * 512, headers),
            ("a.txt", b"a cat", {}),
            ("b.jpg", b"\2" * 16384, {}),
            ("b.txt", b"a dog", {}),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(content), pax
            archive.addfile(info, io.BytesIO(content))
    captions = read_captions(path, name="web", normalize=str)
    assert [caption.text for caption in captions] == ["a cat", "a dog"]
    sparse, plain = read_images(path, rows=[0, 1])
    assert (sparse.data, sparse.problem) == (
        None,
        "sample 'a': its .jpg is not a regular file",
    )
    assert plain.data == b"\2" * 16384
