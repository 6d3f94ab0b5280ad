"""Signed C2PA manifests in images, for users who have a certificate (extra ``c2pa``).

A manifest holds ids by chance, and a signature that may differ each time: an image that is signed
again is another file with the same pixels.
"""

from __future__ import annotations

import base64
import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

from synthvlm.errors import MissingExtraError, RecipeError, first_line
from synthvlm.provenance.marks import SOURCE_TYPE

__all__ = ["Signer"]

#: The smallest PNG: certificate and key are tried on it before anything is generated.
_TRIAL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
#: Signature algorithms by the curve of the key.
_OF_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class Signer:
    """Signs images with one certificate and its key; nothing goes over the network."""

    def __init__(self, certificate: str, private_key: str) -> None:
        """Read both files, and try them.

        Args:
            certificate: PEM file: the certificate, then those that it was issued by.
            private_key: PEM file of its key, without a password.

        Raises:
            MissingExtraError: ``c2pa-python`` is not installed.
            RecipeError: A file cannot be read, they do not belong together, or the certificate is
                none for signing.
        """
        try:
            import c2pa
        except ImportError:
            raise MissingExtraError(
                "export.c2pa needs c2pa-python: pip install 'synthvlm[c2pa]'"
            ) from None
        chain = _read("certificate", certificate)
        key = _read("private_key", private_key)
        algorithm, key = _algorithm_and_key(key, private_key)
        info = c2pa.C2paSignerInfo(algorithm, chain, key, None)
        try:
            self._signer = c2pa.Signer.from_info(info)
            self._context = _context(is_verified=True)
            self.signed(_TRIAL, "png")
        except c2pa.C2paError as error:
            raise RecipeError(
                f"export.c2pa: {certificate} and {private_key} do not sign: {first_line(error)}"
            ) from None
        self._context = _context(is_verified=False)

    def signed(self, image: bytes, format: str) -> bytes:
        """An encoded image with a manifest that says that a trained model made it.

        Args:
            image: The encoded image, with its mark: the signature covers it.
            format: ``png``, ``jpeg`` or ``webp``.
        """
        import c2pa

        signed = io.BytesIO()
        with c2pa.Builder(_manifest(), self._context) as builder:
            builder.sign(self._signer, f"image/{format}", io.BytesIO(image), signed)
        return signed.getvalue()


def _context(*, is_verified: bool) -> Any:
    import c2pa

    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_after_sign": is_verified},
    }
    return c2pa.Context(settings=c2pa.Settings.from_dict(settings))


def _manifest() -> dict[str, object]:
    tool = {"name": "synthvlm", "version": version("synthvlm")}
    made = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": tool}
    return {
        "claim_generator_info": [tool],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
    }


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise RecipeError(f"export.c2pa.{setting}: {path}: {error.strerror}") from None


def _algorithm_and_key(key: bytes, path: str) -> tuple[str, bytes]:
    """The algorithm by which a key signs, and the key in the one form that c2pa reads, PKCS#8."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        problem = "it has a password, which a run cannot ask for: store the key without one"
    except ValueError:
        problem = "it is no private key as PEM"
    else:
        if isinstance(private, EllipticCurvePrivateKey) and private.curve.name in _OF_CURVES:
            algorithm = _OF_CURVES[private.curve.name]
        elif isinstance(private, Ed25519PrivateKey):
            algorithm = "ed25519"
        elif isinstance(private, RSAPrivateKey):
            algorithm = "ps256"
        else:
            algorithm = ""
        if algorithm:
            form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            return algorithm, private.private_bytes(*form)
        problem = "C2PA signs with keys of RSA, Ed25519, P-256, P-384 or P-521"
    raise RecipeError(f"export.c2pa.private_key: {path}: {problem}")
