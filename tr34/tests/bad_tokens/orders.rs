//! `UBT_KDH`, `RBT_KDH`, `UBT_CA` and `RBT_CA`.

use good_tokens::{CERTIFICATE, CRL, HEADER, NONCE, der::*, kdh, krd};

use crate::change::*;

/// Midnight of 2026-01-01.
const UTC_TIME: &[u8] = b"\x17\x0D260101000000Z";

/// Who the new KDH's certificate says that it is.
fn new_kdh() -> Vec<u8> {
    tr34::IssuerAndSerial::of_certificate(CERTIFICATE)
        .unwrap()
        .to_der()
}

crate::bad_tokens! {
    KdhUnbind in X9_2019 {
        "SignedData v3": put("data/0", integer(3)) => "UBT_KDH, at byte 23: SignedData has version 3";
        "content of another type": put("data/2/0", oid(SIGNED_DATA)) => "UBT_KDH, at byte 43: encapContentInfo holds content of type 1.2.840.113549.1.7.2";
        "a certificate": before("data/3", tagged(0, &[CERTIFICATE])) => "UBT_KDH, at byte 90: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and CONTEXT-SPECIFIC [0] (constructed) found";
        "no CRL": cut("data/3") => "UBT_KDH, at byte 90: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "two CRLs": twice("data/3/0") => "UBT_KDH, at byte 94: 2 of crls, not one";
        "no signer": cut("signer") => "UBT_KDH, at byte 571: 0 of signerInfos, not one";
        "two signers": twice("signer") => "UBT_KDH, at byte 573: 2 of signerInfos, not one";
        "no signed attributes": cut("attrs") => "UBT_KDH, at byte 625: signedAttrs expected, of type CONTEXT-SPECIFIC [0] (constructed), and SEQUENCE found";
        "no nonce": cut("attrs/@nonce") => "UBT_KDH, at byte 627: 0 of randomNonce, not one";
        "nonce of 8 bytes, as printed": put("attrs/@nonce/1/0", octets(&[1; 8])) => "UBT_KDH, at byte 669: randomNonce has 8 bytes";
        "a signing time": before("attrs/@nonce", attribute(SIGNING_TIME, &[UTC_TIME])) => "UBT_KDH, at byte 656: an attribute of type 1.2.840.113549.1.9.5 is not for this token";
        "a key block header": before("attrs/@nonce", attribute(DATA, &[&octets(HEADER.as_bytes())])) => "UBT_KDH, at byte 656: an attribute of type 1.2.840.113549.1.7.1 is not for this token";
        "contentType of another content": put("attrs/@contentType/1/0", oid(SIGNED_DATA)) => "UBT_KDH, at byte 642: contentType holds content of type 1.2.840.113549.1.7.2";
        "digest of other bytes": put("attrs/@messageDigest/1/0", octets(&[0; 32])) => "UBT_KDH, at byte 625: messageDigest is not the digest of the content";
        "no terminal": content(cut("0")) => "UBT_KDH, at byte 58: KRD expected, and nothing follows";
        "the terminal twice": content(twice("0")) => "UBT_KDH, at byte 90: nothing more expected in eContent";
        "the terminal in a SEQUENCE": content(rewrite("0", |der| sequence(&[der]))) => "UBT_KDH, at byte 92: serialNumber expected, and nothing follows";
        "the terminal's name alone": content(rewrite("0", |_| name("CA KRD"))) => "UBT_KDH, at byte 77: serialNumber expected, and nothing follows";
        "the terminal's serial zero": content(put("0/1", integer(0))) => "UBT_KDH, at byte 58: serial number is not positive or too long";
        "the terminal's issuer out of order": content(put("0/0", sequence(&[&set(&[
            &sequence(&[&oid("2.5.4.10"), b"\x0C\x01O"]), &sequence(&[&oid("2.5.4.6"), b"\x0C\x01C"]),
        ])]))) => "UBT_KDH, at byte 58: issuer is not in its DER form";
    }
    KdhUnbind in X9_2019Samples {
        "nonce of 7 bytes": put("attrs/@nonce/1/0", octets(&[1; 7])) => "UBT_KDH, at byte 669: randomNonce has 7 bytes";
        "digest before the nonce": swap("attrs/@nonce", "attrs/@messageDigest") => "UBT_KDH, at byte 627: signedAttrs are not in the order of this profile";
    }
    KdhUnbind in Aws2012 {
        "a CRL": before("data/3", tagged(1, &[CRL])) => "UBT_KDH, at byte 90: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "nonce of 16 bytes": put("attrs/@nonce/1/0", octets(&NONCE)) => "UBT_KDH, at byte 190: randomNonce has 16 bytes";
    }
    KdhUnbind in Clover {
        "no signing time": cut("attrs/@time") => "UBT_KDH, at byte 149: 0 of signingTime, not one";
        "no algorithm protection": cut("attrs/@protection") => "UBT_KDH, at byte 149: 0 of CMSAlgorithmProtection, not one";
    }
    KdhRebind in X9_2019 {
        "SignedData v1, as printed": put("data/0", integer(1)) => "RBT_KDH, at byte 23: SignedData has version 1";
        "content of another type": put("data/2/0", oid(DATA)) => "RBT_KDH, at byte 45: encapContentInfo holds content of type 1.2.840.113549.1.7.1";
        "no CRL": cut("data/3") => "RBT_KDH, at byte 978: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "no nonce": cut("attrs/@nonce") => "RBT_KDH, at byte 1515: 0 of randomNonce, not one";
        "contentType of another content": put("attrs/@contentType/1/0", oid(DATA)) => "RBT_KDH, at byte 1530: contentType holds content of type 1.2.840.113549.1.7.1";
        "new credential without its SEQUENCE header, as printed": content(refill("", |inside| inside[4..].to_vec())) => "RBT_KDH, at byte 64: SignedData expected, of type SEQUENCE, and INTEGER found";
        "new credential in a ContentInfo": content(rewrite("0", |der| sequence(&[&oid(SIGNED_DATA), &tagged(0, &[der])]))) => "RBT_KDH, at byte 68: version expected, of type INTEGER, and OBJECT IDENTIFIER found";
        "new credential v3": content(put("0/0", integer(3))) => "RBT_KDH, at byte 68: SignedData has version 3";
        "new credential with a digest algorithm": content(add("0/1", algorithm(SHA_256, &[]))) => "RBT_KDH, at byte 71: digestAlgorithms is present";
        "new credential for nobody": content(cut("0/2/1")) => "RBT_KDH, at byte 86: eContent expected, and nothing follows";
        "new credential for an empty name": content(put("0/2/1/0", octets(&[]))) => "RBT_KDH, at byte 90: KRD expected, and nothing follows";
        "new credential for two": content(put("0/2/1/0", octets(&krd().to_der().repeat(2)))) => "RBT_KDH, at byte 122: nothing more expected in eContent";
        "no certificate": content(cut("0/3/0")) => "RBT_KDH, at byte 116: 0 of certificates, not one";
        "two certificates": content(twice("0/3/0")) => "RBT_KDH, at byte 126: 2 of certificates, not one";
        "a CRL for a certificate": content(put("0/3/0", CRL)) => "RBT_KDH, at byte 126: certificates is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got UTCTime";
        "the new KDH's serial zero": content(put("0/3/0/0/1", integer(0))) => "RBT_KDH, at byte 60: serial number is not positive or too long";
        "the new KDH's issuer empty": content(put("0/3/0/0/3", sequence(&[]))) => "RBT_KDH, at byte 60: issuer has 0 bytes";
        "a CRL in the new credential": content(before("0/4", tagged(1, &[CRL]))) => "RBT_KDH, at byte 976: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "an empty set of CRLs": content(before("0/4", tagged(1, &[]))) => "RBT_KDH, at byte 976: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "a signer of the new credential": content(add("0/4", sequence(&[]))) => "RBT_KDH, at byte 976: signerInfos is present";
        "the new KDH signs for itself": put("signer/1", new_kdh()) => "RBT_KDH, at byte 60: the new KDH is the old one";
    }
    KdhRebind in X9_2019Samples {
        "new credential with its SEQUENCE header": content(refill("", |inside| sequence(&[inside]))) => "RBT_KDH, at byte 64: version expected, of type INTEGER, and SEQUENCE found";
        "SignedData v3, as CMS has it": put("data/0", integer(3)) => "RBT_KDH, at byte 23: SignedData has version 3";
    }
    KdhRebind in Aws2012 {
        "a CRL": before("data/3", tagged(1, &[CRL])) => "RBT_KDH, at byte 974: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
    }
    KdhRebind in Clover {
        "no set of CRLs": content(cut("0/4")) => "RBT_KDH, at byte 976: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "a CRL in the new credential": content(add("0/4", CRL)) => "RBT_KDH, at byte 980: nothing more expected in crls";
    }
    CaUnbind in X9_2019 {
        "SignedData v3": put("data/0", integer(3)) => "UBT_CA, at byte 23: SignedData has version 3";
        "a CRL": before("data/3", tagged(1, &[CRL])) => "UBT_CA, at byte 122: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "signed attributes, as Clover has them": before("signer/3", tagged(0, &[&attribute(CONTENT_TYPE, &[&oid(DATA)])])) => "UBT_CA, at byte 178: signatureAlgorithm expected, of type SEQUENCE, and CONTEXT-SPECIFIC [0] (constructed) found";
        "no terminal and no KDH": content(both(cut("0"), cut("0"))) => "UBT_CA, at byte 58: KRD expected, and nothing follows";
        "no KDH": content(cut("1")) => "UBT_CA, at byte 90: KDH expected, and nothing follows";
        "three names": content(twice("1")) => "UBT_CA, at byte 122: nothing more expected in eContent";
        "both names in a SEQUENCE": content(refill("", |inside| sequence(&[inside]))) => "UBT_CA, at byte 92: serialNumber expected, of type INTEGER, and SEQUENCE found";
        "the KDH's serial negative": content(put("1/1", integer_of(&[0x80]))) => "UBT_CA, at byte 90: serial number is not positive or too long";
        "no signature": cut("signer/4") => "UBT_CA, at byte 186: signature expected, and nothing follows";
    }
    CaUnbind in Clover {
        "no signed attributes": cut("attrs") => "UBT_CA, at byte 178: signedAttrs expected, of type CONTEXT-SPECIFIC [0] (constructed), and SEQUENCE found";
        "a nonce": before("attrs/@protection", attribute(RANDOM_NONCE, &[&octets(&NONCE)])) => "UBT_CA, at byte 239: an attribute of type 1.2.840.113549.1.9.25.3 is not for this token";
        "no signing time": cut("attrs/@time") => "UBT_CA, at byte 180: 0 of signingTime, not one";
    }
    CaRebind in X9_2019 {
        "SignedData v1, as printed": put("data/0", integer(1)) => "RBT_CA, at byte 23: SignedData has version 1";
        "a CRL": before("data/3", tagged(1, &[CRL])) => "RBT_CA, at byte 1010: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "no signing time": cut("attrs/@time") => "RBT_CA, at byte 1068: 0 of signingTime, not one";
        "a nonce": before("attrs/@messageDigest", attribute(RANDOM_NONCE, &[&octets(&NONCE)])) => "RBT_CA, at byte 1127: an attribute of type 1.2.840.113549.1.9.25.3 is not for this token";
        "no KDH": content(put("0/2/1/0", octets(&krd().to_der()))) => "RBT_CA, at byte 122: KDH expected, and nothing follows";
        "three names": content(put("0/2/1/0", octets(&[krd().to_der(), kdh().to_der().repeat(2)].concat()))) => "RBT_CA, at byte 154: nothing more expected in eContent";
        "the new KDH is the old one": content(put("0/2/1/0", octets(&[krd().to_der(), new_kdh()].concat()))) => "RBT_CA, at byte 60: the new KDH is the old one";
        "digest of other bytes": put("attrs/@messageDigest/1/0", octets(&[0; 32])) => "RBT_CA, at byte 1066: messageDigest is not the digest of the content";
    }
    CaRebind in X9_2019Samples {
        "new credential with its SEQUENCE header": content(refill("", |inside| sequence(&[inside]))) => "RBT_CA, at byte 64: version expected, of type INTEGER, and SEQUENCE found";
    }
    CaRebind in Clover {
        "no algorithm protection": cut("attrs/@protection") => "RBT_CA, at byte 1070: 0 of CMSAlgorithmProtection, not one";
        "no set of CRLs": content(cut("0/4")) => "RBT_CA, at byte 1008: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
    }
}
