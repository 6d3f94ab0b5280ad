"""Images signed with a certificate of a test, and read by the reader of c2pa-python."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fake_models import run_with
from synthvlm.errors import MissingExtraError, RecipeError
from synthvlm.provenance.c2pa_signing import Signer
from synthvlm.provenance.marks import SOURCE_TYPE, ImageDetails, marked
from synthvlm.recipe import Recipe

WITHOUT = "C2PA is not tested without its extra: pip install 'synthvlm[c2pa]'"
c2pa = pytest.importorskip("c2pa", reason=WITHOUT)
pytest.importorskip("cryptography", reason=WITHOUT)

from certificates import SigningFiles, key_pem, signing_files  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402
from cryptography.hazmat.primitives.serialization import (  # noqa: E402
    Encoding,
    NoEncryption,
    PrivateFormat,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SigningFiles:
    return signing_files(tmp_path_factory.mktemp("signing"))


def encoded(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format)
    return sink.getvalue()


def manifest(image: bytes, format: str) -> tuple[dict[str, object], set[str]]:
    """The manifest of an image, and what is wrong with it."""
    with c2pa.Reader(f"image/{format}", io.BytesIO(image)) as reader:
        store = json.loads(reader.json())
    problems = {one["code"] for one in store.get("validation_status", [])}
    return store["manifests"][store["active_manifest"]], problems


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_signed_image_is_valid_and_keeps_its_mark_and_pixels(
    files: SigningFiles, format: str
) -> None:
    image = marked(encoded(format), format, ImageDetails("org/model", 7, "0123abcd"))
    result = Signer(*files).signed(image, format)
    before, after = (Image.open(io.BytesIO(data)) for data in (image, result))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert after.info["xmp"] == before.info["xmp"]
    found, problems = manifest(result, format)
    assert problems == {"signingCredential.untrusted"}  # nobody knows the authority of the test
    (assertion,) = found["assertions"]  # type: ignore[misc]
    (action,) = assertion["data"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert found["signature_info"]["common_name"] == "A signer"  # type: ignore[index]
    changed = bytearray(result)
    changed[result.index(b"org/model")] ^= 1
    assert "assertion.dataHash.mismatch" in manifest(bytes(changed), format)[1]


def test_keys_of_other_kinds_sign(tmp_path: Path) -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        signed = Signer(*signing_files(tmp_path, key)).signed(encoded("png"), "png")
        assert manifest(signed, "png")[1] == {"signingCredential.untrusted"}


def test_a_key_signs_in_the_form_that_openssl_writes(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    files = signing_files(tmp_path, key)
    traditional = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    Path(files.private_key).write_bytes(key.private_bytes(*traditional))
    signed = Signer(*files).signed(encoded("png"), "png")
    assert manifest(signed, "png")[1] == {"signingCredential.untrusted"}


def test_what_cannot_sign_is_refused_in_a_line(files: SigningFiles, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"

    def problem(certificate: str = files.certificate, private_key: str = str(other)) -> str:
        with pytest.raises(RecipeError) as caught:
            Signer(certificate, private_key)
        text = str(caught.value)
        assert "\n" not in text
        assert "PRIVATE" not in text
        return text

    assert problem() == f"export.c2pa.private_key: {other}: No such file or directory"
    assert problem("none.pem") == "export.c2pa.certificate: none.pem: No such file or directory"
    key = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(key_pem(key))
    assert f"{other} do not sign: Signature: the signature does not match" in problem()
    other.write_bytes(key_pem(key, b"secret"))
    assert f"export.c2pa.private_key: {other}: it has a password" in problem()
    other.write_bytes(b"no key")
    assert f"export.c2pa.private_key: {other}: it is no private key as PEM" in problem()
    other.write_bytes(key_pem(ec.generate_private_key(ec.SECP256K1())))
    assert "keys of RSA, Ed25519, P-256, P-384 or P-521" in problem()
    assert "do not sign" in problem(str(other), files.private_key)


def test_without_the_package_the_line_says_what_installs_it(
    files: SigningFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'synthvlm\[c2pa\]'"):
        Signer(*files)


def exported(run: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes of each exported image, and the time of its last change."""
    images = (run / "dataset" / "images").rglob("*.png")
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in images}


def test_a_finished_export_is_not_signed_again(tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    words = ("red", "blue", "green")
    captions.write_text("".join(f"a {word} horse beside a small wooden barn\n" for word in words))
    (tmp_path / "keys").mkdir()
    files = signing_files(tmp_path / "keys")
    changes = [
        "generation.model=org/fake",
        "generation.candidates=1",
        "scoring.clip.model=org/fake",
        "selection.top_fraction=1.0",
        "export.images_per_folder=2",
        "run.threads=1",
        f"export.c2pa={{certificate: {files.certificate}, private_key: {files.private_key}}}",
    ]
    recipe = Recipe.load("tiny", captions=[captions], overrides=changes)
    out = tmp_path / "run"

    hidden = Path(shutil.move(files.private_key, tmp_path / "hidden.pem"))
    with pytest.raises(RecipeError, match=r"export\.c2pa\.private_key: .*No such file"):
        run_with(recipe, out, until="export")
    assert not (out / "pairs").exists(), "it is known before anything is generated"
    shutil.move(hidden, files.private_key)
    run_with(recipe, out, until="export")
    first = exported(out)
    assert len(first) == 3
    for image, _ in first.values():
        assert manifest(image, "png")[1] == {"signingCredential.untrusted"}
        assert SOURCE_TYPE in str(Image.open(io.BytesIO(image)).info["xmp"])

    shutil.rmtree(tmp_path / "keys")  # of a machine that has neither certificate nor key
    run_with(recipe, out, until="export")
    assert exported(out) == first
    (tmp_path / "keys").mkdir()
    signing_files(tmp_path / "keys")  # a renewed certificate
    (out / "dataset" / "README.md").unlink()
    for path in (out / "dataset" / "images" / "00001").iterdir():
        path.unlink()
        run_with(recipe, out, until="export")
        again = exported(out)
        assert {name for name in first if again[name] != first[name]} == {path.name}
        assert manifest(again[path.name][0], "png")[1] == {"signingCredential.untrusted"}
