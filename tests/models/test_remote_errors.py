"""What is said of errors of the hub and of file systems by URL."""

from __future__ import annotations

import pytest

from synthvlm.models.remote_errors import hub_reason, missing_file_system


def test_signatures_of_links_are_not_repeated() -> None:
    link = "https://storage.example/lfs/ab?X-Amz-Signature=0123abcd&X-Amz-Expires=900"
    said = hub_reason(RuntimeError(f"Error while uploading to '{link}'\nsecond line"))
    assert said == "Error while uploading to 'https://storage.example/lfs/ab' second line"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://b/x", "s3://b/x needs an extra: pip install 'synthvlm[s3]'"),
        ("s3a://b/x", "s3a://b/x needs an extra: pip install 'synthvlm[s3]'"),
        ("gcs://b/x", "gcs://b/x needs an extra: pip install 'synthvlm[gcs]'"),
        ("sftp://h/x", "sftp://h/x: install paramiko"),
    ],
)
def test_what_to_install(url: str, said: str) -> None:
    assert str(missing_file_system(url, ImportError("install paramiko\nplease"))) == said
