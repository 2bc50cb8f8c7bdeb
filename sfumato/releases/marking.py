"""The mark that every synthetic picture carries: one XMP packet, the same bytes in each.

It states IPTC's digital source type (https://cv.iptc.org/newscodes/digitalsourcetype/) for what a
trained model draws. A mark is no proof: whoever stores the picture anew may lose it.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
KEYWORD = "XML:com.adobe.xmp"
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)
# An iTXt chunk: keyword, no compression, neither language nor translated keyword, text.
_BODY = b"iTXt" + KEYWORD.encode("latin-1") + bytes(5) + PACKET.encode("utf-8")
CHUNK = struct.pack(">I", len(_BODY) - 4) + _BODY + struct.pack(">I", zlib.crc32(_BODY))


def marked_png(image: np.ndarray) -> bytes:
    """A picture as PNG with the mark and no other metadata.

    Args:
        image: uint8 [height, width, 3].

    Returns:
        The file's bytes.
    """
    mark = PngInfo()
    mark.add_itxt(KEYWORD, PACKET)
    blob = io.BytesIO()
    Image.fromarray(image).save(blob, "PNG", compress_level=4, pnginfo=mark)
    return blob.getvalue()
