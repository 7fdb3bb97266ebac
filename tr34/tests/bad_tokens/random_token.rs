//! `RT_KRD`.

use good_tokens::{NONCE, der::*};

use crate::change::*;

crate::bad_tokens! {
    RandomToken in X9_2019 {
        "nothing": put("", []) => "RT_KRD, at byte 0: randomNonce expected, and nothing follows";
        "the nonce without its attribute": put("", octets(&NONCE)) => "RT_KRD, at byte 0: randomNonce expected, of type SEQUENCE, and OCTET STRING found";
        "the attribute in a set": rewrite("", |der| set(&[der])) => "RT_KRD, at byte 0: randomNonce expected, of type SEQUENCE, and SET found";
        "another attribute": put("0", oid(MESSAGE_DIGEST)) => "RT_KRD, at byte 2: an attribute of type 1.2.840.113549.1.9.4 is not for this token";
        "no type": cut("0") => "RT_KRD, at byte 2: attrType expected, of type OBJECT IDENTIFIER, and SET found";
        "type of no bytes": put("0", [6, 0]) => "RT_KRD, at byte 2: attrType is not the DER expected: malformed OID";
        "type that ends in the middle of a number": put("0", [6, 2, 0x2A, 0x86]) => "RT_KRD, at byte 2: attrType is not the DER expected: malformed OID";
        "no set of values": cut("1") => "RT_KRD, at byte 14: attrValues expected, and nothing follows";
        "the value outside a set": put("1", octets(&NONCE)) => "RT_KRD, at byte 14: attrValues expected, of type SET, and OCTET STRING found";
        "the values in a SEQUENCE": retag("1", 0x30) => "RT_KRD, at byte 14: attrValues expected, of type SET, and SEQUENCE found";
        "no nonce": cut("1/0") => "RT_KRD, at byte 16: 0 of randomNonce, not one";
        "two nonces": twice("1/0") => "RT_KRD, at byte 16: 2 of randomNonce, not one";
        "empty nonce": put("1/0", octets(&[])) => "RT_KRD, at byte 16: randomNonce has 0 bytes";
        "nonce of 8 bytes": put("1/0", octets(&[1; 8])) => "RT_KRD, at byte 16: randomNonce has 8 bytes";
        "nonce of 15 bytes": put("1/0", octets(&[1; 15])) => "RT_KRD, at byte 16: randomNonce has 15 bytes";
        "nonce of 17 bytes": put("1/0", octets(&[1; 17])) => "RT_KRD, at byte 16: randomNonce has 17 bytes";
        "nonce as text": retag("1/0", 0x0C) => "RT_KRD, at byte 16: randomNonce expected, of type OCTET STRING, and UTF8String found";
        "nonce in pieces": rewrite("1/0", |der| [&[0x24, 18], der].concat()) => "RT_KRD, at byte 16: randomNonce is not the DER expected: unknown/unsupported ASN.1 DER tag: 0x24";
        "a field more": add("", NULL) => "RT_KRD, at byte 34: nothing more expected in randomNonce";
        "a byte more": rewrite("", |der| [der, &[0]].concat()) => "RT_KRD, at byte 34: nothing more expected in token";
        "a second token behind it": rewrite("", |der| der.repeat(2)) => "RT_KRD, at byte 34: nothing more expected in token";
        "only its tag": rewrite("", first(1)) => "RT_KRD, at byte 0: randomNonce is not the DER expected: ASN.1 DER message is incomplete: expected 2, actual 1";
        "only its header": rewrite("", first(2)) => "RT_KRD, at byte 0: randomNonce is not the DER expected: ASN.1 DER message is incomplete: expected 34, actual 2";
        "a byte less": rewrite("", first(33)) => "RT_KRD, at byte 0: randomNonce is not the DER expected: ASN.1 DER message is incomplete: expected 34, actual 33";
        "length in long form": rewrite("", long_length) => "RT_KRD, at byte 0: randomNonce is not the DER expected: incorrect length for SEQUENCE";
        "indefinite length": rewrite("", indefinite_length) => "RT_KRD, at byte 0: randomNonce is not the DER expected: indefinite length disallowed/malformed";
        "length of five bytes": put("", [0x30, 0x85, 0, 0, 0, 0, 0]) => "RT_KRD, at byte 0: randomNonce is not the DER expected: incorrect length for SEQUENCE";
        "length of four gigabytes": put("", [0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF]) => "RT_KRD, at byte 0: randomNonce is not the DER expected: integer overflow";
        "tag number in long form": put("", [0x3F, 0x81, 0x00, 0x00]) => "RT_KRD, at byte 0: randomNonce is not the DER expected: unknown/unsupported ASN.1 DER tag: 0x3f";
        "tag zero": put("", [0; 34]) => "RT_KRD, at byte 0: randomNonce is not the DER expected: unknown/unsupported ASN.1 DER tag: 0x00";
        "longer than a token may be": put("1/0", octets(&[0; tr34::MAX_TOKEN_LEN])) => "RT_KRD, at byte 0: 65563 bytes, more than 65536";
    }
    RandomToken in X9_2019Samples {
        "nonce of 7 bytes": put("1/0", octets(&[1; 7])) => "RT_KRD, at byte 16: randomNonce has 7 bytes";
        "nonce of 17 bytes": put("1/0", octets(&[1; 17])) => "RT_KRD, at byte 16: randomNonce has 17 bytes";
    }
    RandomToken in Aws2012 {
        "nonce of 7 bytes": put("1/0", octets(&[1; 7])) => "RT_KRD, at byte 16: randomNonce has 7 bytes";
        "nonce of 9 bytes": put("1/0", octets(&[1; 9])) => "RT_KRD, at byte 16: randomNonce has 9 bytes";
        "nonce of 16 bytes, as in the samples": put("1/0", octets(&NONCE)) => "RT_KRD, at byte 16: randomNonce has 16 bytes";
    }
    RandomToken in Clover {
        "nonce of 7 bytes": put("1/0", octets(&[1; 7])) => "RT_KRD, at byte 16: randomNonce has 7 bytes";
        "nonce of 17 bytes": put("1/0", octets(&[1; 17])) => "RT_KRD, at byte 16: randomNonce has 17 bytes";
    }
}
