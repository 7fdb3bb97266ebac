//! The clear key block.

use good_tokens::{HEADER, der::*};

use crate::change::*;

crate::bad_tokens! {
    KeyBlock in X9_2019 {
        "nothing": put("", []) => "key block, at byte 0: key block expected, and nothing follows";
        "not a SEQUENCE": retag("", 0x31) => "key block, at byte 0: key block expected, of type SEQUENCE, and SET found";
        "version 0, as in Annex D": put("0", integer(0)) => "key block, at byte 2: key block has version 0";
        "version 2": put("0", integer(2)) => "key block, at byte 2: key block has version 2";
        "no version": cut("0") => "key block, at byte 2: version expected, of type INTEGER, and SEQUENCE found";
        "no KDH": cut("1") => "key block, at byte 5: idKDH expected, of type SEQUENCE, and OCTET STRING found";
        "KDH by key identifier": put("1", context(0, false, &[&[7; 20]])) => "key block, at byte 5: idKDH expected, of type SEQUENCE, and CONTEXT-SPECIFIC [0] (primitive) found";
        "KDH's serial zero": put("1/1", integer(0)) => "key block, at byte 5: serial number is not positive or too long";
        "no key": cut("2") => "key block, at byte 37: clearKey expected, of type OCTET STRING, and SEQUENCE found";
        "key of another type": put("2", integer(5)) => "key block, at byte 37: clearKey expected, of type OCTET STRING, and INTEGER found";
        "key in pieces": rewrite("2", |der| [&[0x24, 18], der].concat()) => "key block, at byte 37: clearKey is not the DER expected: unknown/unsupported ASN.1 DER tag: 0x24";
        "two keys": twice("2") => "key block, at byte 55: key block header expected, of type SEQUENCE, and OCTET STRING found";
        "no header": cut("3") => "key block, at byte 55: key block header expected, and nothing follows";
        "header as a plain OCTET STRING, as in Annex D": put("3", octets(HEADER.as_bytes())) => "key block, at byte 55: key block header expected, of type SEQUENCE, and OCTET STRING found";
        "header under another type": put("3/0", oid(RANDOM_NONCE)) => "key block, at byte 57: an attribute of type 1.2.840.113549.1.9.25.3 is not for this token";
        "no value of the header": cut("3/1/0") => "key block, at byte 70: 0 of key block header, not one";
        "two headers": twice("3/1/0") => "key block, at byte 70: 2 of key block header, not one";
        "header without the optional block that it counts": put("3/1/0", octets(b"D0000K0AB00E0100")) => "key block, at byte 70: the optional block at character 16 is longer than what is left of the key block";
        "header with an optional block that it does not count": put("3/1/0", octets(b"D0000K0AB00E0000LB10abcdefghijkl")) => "key block, at byte 70: key block header has 32 characters, not 16";
        "header that is not filled up": put("3/1/0", octets(b"D0000K0AB00E0100IK140A1B2C3D0000002A")) => "key block, at byte 70: key block header has 36 characters, which are not whole blocks of version D";
        "header of an unknown version": put("3/1/0", octets(b"E0000K0AB00E0000")) => "key block, at byte 70: key block header has an unknown value of version id";
        "header with a length in letters": put("3/1/0", octets(b"D00FFK0AB00E0000")) => "key block, at byte 70: key block header has an unknown value of block length";
        "header with an unknown mode": put("3/1/0", octets(b"D0000K0AF00E0000")) => "key block, at byte 70: key block header has an unknown value of mode of use";
        "header with an unknown key version": put("3/1/0", octets(b"D0000K0AB0-E0000")) => "key block, at byte 70: key block header has an unknown value of key version number";
        "header with an unknown exportability": put("3/1/0", octets(b"D0000K0AB00X0000")) => "key block, at byte 70: key block header has an unknown value of exportability";
        "header with a reserved value": put("3/1/0", octets(b"D0000K0AB00E0001")) => "key block, at byte 70: key block header has an unknown value of the reserved field";
        "header empty": put("3/1/0", octets(&[])) => "key block, at byte 70: key block header has 0 characters, not 16";
        "a field more": add("", NULL) => "key block, at byte 88: nothing more expected in key block";
        "padding left on it": rewrite("", |der| [der, &[8; 8]].concat()) => "key block, at byte 88: nothing more expected in token";
        "longer than a token may be": put("2", octets(&[0; tr34::MAX_TOKEN_LEN])) => "key block, at byte 0: 65614 bytes, more than 65536";
    }
    KeyBlock in X9_2019AnnexD {
        "version 1, as printed": put("0", integer(1)) => "key block, at byte 2: key block has version 1";
        "header as an attribute, as printed": put("3", attribute(DATA, &[&octets(HEADER.as_bytes())])) => "key block, at byte 55: key block header expected, of type OCTET STRING, and SEQUENCE found";
        "header of an unknown usage": put("3", octets(b"D0000XXAB00E0000")) => "key block, at byte 55: key block header has an unknown value of key usage";
        "header too long": put("3", octets(b"D0000K0AB00E00000")) => "key block, at byte 55: key block header has 17 characters, not 16";
        "no header": cut("3") => "key block, at byte 55: key block header expected, and nothing follows";
    }
}
