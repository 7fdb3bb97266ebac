//! `IssuerAndSerialNumber`, the same in every profile.

use good_tokens::der::*;

use crate::change::*;

/// An attribute of a name.
fn attribute_of_name(kind: &str, value: &str) -> Vec<u8> {
    let value = element(::der::Tag::Utf8String, &[value.as_bytes()]);
    sequence(&[&oid(kind), &value])
}

crate::bad_tokens! {
    Identity in X9_2019 {
        "nothing": put("", []) => "IssuerAndSerialNumber, at byte 0: IssuerAndSerialNumber expected, and nothing follows";
        "the issuer alone": cut("1") => "IssuerAndSerialNumber, at byte 21: serialNumber expected, and nothing follows";
        "the serial alone": cut("0") => "IssuerAndSerialNumber, at byte 13: serialNumber expected, and nothing follows";
        "a third field": add("", NULL) => "IssuerAndSerialNumber, at byte 32: nothing more expected in IssuerAndSerialNumber";
        "the other way round": swap("0", "1") => "IssuerAndSerialNumber, at byte 13: serialNumber expected, of type INTEGER, and SEQUENCE found";
        "an empty issuer": put("0", sequence(&[])) => "IssuerAndSerialNumber, at byte 0: issuer has 0 bytes";
        "an issuer that is no name": put("0", set(&[])) => "IssuerAndSerialNumber, at byte 0: issuer is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got SET";
        "an issuer with an empty set": put("0", sequence(&[&set(&[])])) => "IssuerAndSerialNumber, at byte 0: issuer has a set without attributes";
        "an issuer with a number for a value": put("0/0/0/1", integer(1)) => "IssuerAndSerialNumber, at byte 0: issuer has a value that is no text";
        "an issuer with text that is none": rewrite("0/0/0/1", |_| element(::der::Tag::Utf8String, &[&[0xC3]])) => "IssuerAndSerialNumber, at byte 0: issuer is not the DER expected: malformed ASN.1 DER value for UTF8String";
        "an issuer with half a character": rewrite("0/0/0/1", |_| element(::der::Tag::BmpString, &[&[0, 0x41, 0]])) => "IssuerAndSerialNumber, at byte 0: issuer is not the DER expected: malformed ASN.1 DER value for BMPString";
        "an issuer with bytes behind it": put("0", sequence(&[&set(&[&attribute_of_name("2.5.4.3", "CA")]), NULL])) => "IssuerAndSerialNumber, at byte 0: issuer is not the DER expected: unexpected ASN.1 DER tag: expected SET, got NULL";
        "an issuer whose set is out of order": put("0", sequence(&[&set(&[&attribute_of_name("2.5.4.10", "Example"), &attribute_of_name("2.5.4.6", "DE")])])) => "IssuerAndSerialNumber, at byte 0: issuer is not in its DER form";
        "serial of another type": put("1", octets(&[1])) => "IssuerAndSerialNumber, at byte 21: serialNumber expected, of type INTEGER, and OCTET STRING found";
        "serial zero": put("1", integer(0)) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "serial negative": put("1", integer_of(&[0x80, 1])) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "serial padded": put("1", integer_of(&[0, 1])) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "serial padded where it is negative": put("1", integer_of(&[0xFF, 0x80])) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "serial empty": put("1", integer_of(&[])) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "serial of 21 bytes": put("1", integer_of(&[1; 21])) => "IssuerAndSerialNumber, at byte 0: serial number is not positive or too long";
        "length in long form": rewrite("", long_length) => "IssuerAndSerialNumber, at byte 0: IssuerAndSerialNumber is not the DER expected: incorrect length for SEQUENCE";
        "indefinite length": rewrite("", indefinite_length) => "IssuerAndSerialNumber, at byte 0: IssuerAndSerialNumber is not the DER expected: indefinite length disallowed/malformed";
        "a byte more": rewrite("", |der| [der, &[0]].concat()) => "IssuerAndSerialNumber, at byte 32: nothing more expected in token";
    }
}
