"""Marks an encoded image as synthetic, by XMP; its pixels stay as they are.

The mark is IPTC's digital source type ``trainedAlgorithmicMedia``. Nothing in it depends on the
time, the machine or the version of this package, so that equal images stay equal files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape

from synthvlm.provenance.containers import with_xmp

__all__ = ["SOURCE_TYPE", "ImageDetails", "marked"]

#: "Created using an algorithm that was trained on sampled content", of the vocabulary of the IPTC.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "synthvlm": "urn:synthvlm:",
}
#: What XML 1.0 has no way to write.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TOOL = "synthvlm"


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """How an image was made.

    Attributes:
        model: Names of the models that made it.
        seed: Of the image.
        run: The run fingerprint: what all images of its run depend on. None where it is not known.
    """

    model: str
    seed: int
    run: str | None


def marked(image: bytes, format: str, details: ImageDetails | None = None) -> bytes:
    """An encoded image with the mark, and with details of how it was made where they are given.

    A mark that it has, or other XMP, is replaced: a file has one XMP packet.

    Args:
        image: The encoded image.
        format: ``png``, ``jpeg`` or ``webp``.
        details: Written into the XMP, and in PNG into text chunks as well.

    Raises:
        ValueError: It is no whole image of that format, or the packet is too long for it.
    """
    return with_xmp(image, format, _packet(details), _texts(details))


def _packet(details: ImageDetails | None) -> bytes:
    properties = [("Iptc4xmpExt:DigitalSourceType", SOURCE_TYPE)]
    if details is not None:
        properties += [
            ("Iptc4xmpExt:AISystemUsed", _clean(details.model)),
            ("xmp:CreatorTool", _TOOL),
            ("synthvlm:seed", str(details.seed)),
        ]
        if details.run is not None:
            properties.append(("synthvlm:runFingerprint", details.run))
    used = {"rdf", *(name.partition(":")[0] for name, _ in properties)}
    spaces = "".join(f' xmlns:{n}="{url}"' for n, url in _NAMESPACES.items() if n in used)
    lines = [
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>',
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF{spaces}><rdf:Description rdf:about="">',
        *(f"<{name}>{escape(value)}</{name}>" for name, value in properties),
        "</rdf:Description></rdf:RDF></x:xmpmeta>",
        '<?xpacket end="w"?>',
    ]
    return "\n".join(lines).encode()


def _texts(details: ImageDetails | None) -> dict[str, str | None]:
    """The text chunks of a PNG; None for those that it must not have."""
    if details is None:
        return dict.fromkeys(("Software", "Model", "Seed", "Run fingerprint"))
    return {
        "Software": _TOOL,
        "Model": _clean(details.model),
        "Seed": str(details.seed),
        "Run fingerprint": details.run,
    }


def _clean(text: str) -> str:
    """A text on one line, with a replacement for what XML cannot hold."""
    return _NOT_XML.sub("\ufffd", " ".join(text.split()))
