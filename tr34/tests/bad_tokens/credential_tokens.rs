//! `CT_KRD` and `CT_KDH`.

use good_tokens::{CERTIFICATE, CRL, der::*};

use crate::change::*;

/// RFC 5652 5.2's content of no bytes.
fn empty_content() -> Vec<u8> {
    tagged(0, &[&octets(&[])])
}

crate::bad_tokens! {
    KrdCredential in X9_2019 {
        "ContentInfo of another type": put("0", oid(DATA)) => "CT_KRD, at byte 4: ContentInfo holds content of type 1.2.840.113549.1.7.1";
        "ContentInfo without content": cut("1") => "CT_KRD, at byte 13: SignedData expected, and nothing follows";
        "SignedData bare": put("1", sequence(&[])) => "CT_KRD, at byte 13: SignedData expected, of type CONTEXT-SPECIFIC [0] (constructed), and SEQUENCE found";
        "two SignedData": twice("1/0") => "CT_KRD, at byte 901: nothing more expected in SignedData";
        "SignedData a SET": retag("1/0", 0x31) => "CT_KRD, at byte 19: SignedData expected, of type SEQUENCE, and SET found";
        "version 0": put("data/0", integer(0)) => "CT_KRD, at byte 23: SignedData has version 0";
        "version 3": put("data/0", integer(3)) => "CT_KRD, at byte 23: SignedData has version 3";
        "version 257": put("data/0", integer_of(&[1, 1])) => "CT_KRD, at byte 23: version is not the DER expected: incorrect length for INTEGER";
        "version negative": put("data/0", integer_of(&[0xFF])) => "CT_KRD, at byte 23: version is not the DER expected: malformed ASN.1 DER value for INTEGER";
        "version of no bytes": put("data/0", integer_of(&[])) => "CT_KRD, at byte 23: version is not the DER expected: incorrect length for INTEGER";
        "a digest algorithm": add("data/1", algorithm(SHA_256, &[])) => "CT_KRD, at byte 26: digestAlgorithms is present";
        "content of another type": put("data/2/0", oid(SIGNED_DATA)) => "CT_KRD, at byte 30: encapContentInfo holds content of type 1.2.840.113549.1.7.2";
        "no content": cut("data/2/1") => "CT_KRD, at byte 41: eContent expected, and nothing follows";
        "content not empty": put("content", octets(b"x")) => "CT_KRD, at byte 43: eContent is present";
        "content not an OCTET STRING": put("content", NULL) => "CT_KRD, at byte 43: eContent expected, of type OCTET STRING, and NULL found";
        "two contents": twice("data/2/1") => "CT_KRD, at byte 45: nothing more expected in encapContentInfo";
        "no certificate": cut("data/3") => "CT_KRD, at byte 39: certificates expected, of type CONTEXT-SPECIFIC [0] (constructed), and SET found";
        "an empty set of certificates": cut("data/3/0") => "CT_KRD, at byte 41: 0 of certificates, not one";
        "two certificates": twice("data/3/0") => "CT_KRD, at byte 49: 2 of certificates, not one";
        "a CRL for a certificate": put("data/3/0", CRL) => "CT_KRD, at byte 49: certificates is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got UTCTime";
        "a certificate of another kind": rewrite("data/3/0", |der| tagged(1, &[der])) => "CT_KRD, at byte 49: certificates is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got CONTEXT-SPECIFIC [1] (constructed)";
        "half a certificate": rewrite("data/3/0", first(300)) => "CT_KRD, at byte 49: certificates is not the DER expected: ASN.1 DER message is incomplete: expected 850, actual 300";
        "certificates under a SET's own tag": retag("data/3", 0x31) => "CT_KRD, at byte 45: certificates expected, of type CONTEXT-SPECIFIC [0] (constructed), and SET found";
        "a certificate with a field more": add("data/3/0", NULL) => "CT_KRD, at byte 49: certificates is not the DER expected: trailing data at end of DER message: decoded 850 bytes, 2 bytes remaining";
        "a certificate without a signature": cut("data/3/0/2") => "CT_KRD, at byte 49: certificates is not the DER expected: ASN.1 DER message is incomplete: expected 590, actual 589";
        "a certificate whose serial number is missing": cut("data/3/0/0/1") => "CT_KRD, at byte 49: certificates is not the DER expected: unexpected ASN.1 DER tag: expected INTEGER, got SEQUENCE";
        "a certificate that never begins": put("data/3/0/0/4/0", b"\x17\x0D269999000000Z") => "CT_KRD, at byte 49: certificates is not the DER expected: malformed ASN.1 DER value for UTCTime";
        "a certificate whose issuer has a set without attributes": put("data/3/0/0/3/0", set(&[])) => "CT_KRD, at byte 49: issuer has a set without attributes";
        "a certificate whose subject has a number for a value": put("data/3/0/0/5/0/0/1", integer(1)) => "CT_KRD, at byte 49: subject has a value that is no text";
        "a certificate signed by an algorithm with a padded number": put("data/3/0/0/2/1", integer_of(&[0, 1])) => "CT_KRD, at byte 88: certificates is not the DER expected: malformed ASN.1 DER value for INTEGER";
        "a certificate of a key by an algorithm with a NULL of a byte": put("data/3/0/0/6/0/1", [5, 1, 0]) => "CT_KRD, at byte 262: certificates is not the DER expected: malformed ASN.1 DER value for NULL";
        "a certificate whose signature is by an algorithm of half an OID": put("data/3/0/1/1", [6, 1, 0x80]) => "CT_KRD, at byte 636: certificates is not the DER expected: malformed ASN.1 DER value for OBJECT IDENTIFIER";
        "no set of signers": cut("data/4") => "CT_KRD, at byte 899: signerInfos expected, and nothing follows";
        "a signer": add("data/4", sequence(&[])) => "CT_KRD, at byte 899: signerInfos is present";
        "a CRL": before("data/4", tagged(1, &[CRL])) => "CT_KRD, at byte 899: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "an empty set of CRLs": before("data/4", tagged(1, &[])) => "CT_KRD, at byte 899: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "an unknown field": add("data", tagged(2, &[NULL])) => "CT_KRD, at byte 901: nothing more expected in SignedData";
        "certificates behind the signers": swap("data/3", "data/4") => "CT_KRD, at byte 45: certificates expected, of type CONTEXT-SPECIFIC [0] (constructed), and SET found";
        "longer than a token may be": put("data/3/0", vec![0x30; tr34::MAX_TOKEN_LEN]) => "CT_KRD, at byte 0: 65591 bytes, more than 65536";
    }
    KrdCredential in Clover {
        "an empty content, as printed": add("data/2", empty_content()) => "CT_KRD, at byte 41: nothing more expected in encapContentInfo";
        "an empty set of CRLs": before("data/4", tagged(1, &[])) => "CT_KRD, at byte 895: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
    }
    KdhCredential in X9_2019 {
        "SignedData v3": put("data/0", integer(3)) => "CT_KDH, at byte 23: SignedData has version 3";
        "a digest algorithm": add("data/1", algorithm(SHA_256, &[])) => "CT_KDH, at byte 26: digestAlgorithms is present";
        "content not empty": put("content", octets(CRL)) => "CT_KDH, at byte 47: eContent is present";
        "two certificates": twice("data/3/0") => "CT_KDH, at byte 49: 2 of certificates, not one";
        "a CRL for a certificate": put("data/3/0", CRL) => "CT_KDH, at byte 49: certificates is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got UTCTime";
        "no CRL": cut("data/4") => "CT_KDH, at byte 899: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "an empty set of CRLs": cut("data/4/0") => "CT_KDH, at byte 901: 0 of crls, not one";
        "two CRLs": twice("data/4/0") => "CT_KDH, at byte 903: 2 of crls, not one";
        "a certificate for a CRL": put("data/4/0", CERTIFICATE) => "CT_KDH, at byte 903: crls is not the DER expected: unexpected ASN.1 DER tag: expected INTEGER, got CONTEXT-SPECIFIC [0] (constructed)";
        "revocation data of another kind": rewrite("data/4/0", |der| tagged(1, &[der])) => "CT_KDH, at byte 903: crls is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got CONTEXT-SPECIFIC [1] (constructed)";
        "a CRL whose issuer has a number for a value": put("data/4/0/0/2/0/0/1", integer(1)) => "CT_KDH, at byte 903: issuer has a value that is no text";
        "a CRL signed by an algorithm with a truth of two bytes": put("data/4/0/0/1/1", [1, 2, 0, 0]) => "CT_KDH, at byte 926: crls is not the DER expected: malformed ASN.1 DER value for BOOLEAN";
        "a CRL whose signature is by an algorithm with an OID in long form": put("data/4/0/1/1", [6, 3, 0x2A, 0x80, 0x03]) => "CT_KDH, at byte 1115: crls is not the DER expected: malformed ASN.1 DER value for OBJECT IDENTIFIER";
        "half a CRL": rewrite("data/4/0", first(200)) => "CT_KDH, at byte 902: crls is not the DER expected: ASN.1 DER message is incomplete: expected 475, actual 200";
        "a CRL with a field more": add("data/4/0", NULL) => "CT_KDH, at byte 903: crls is not the DER expected: trailing data at end of DER message: decoded 475 bytes, 2 bytes remaining";
        "a CRL without a signature": cut("data/4/0/2") => "CT_KDH, at byte 902: crls is not the DER expected: ASN.1 DER message is incomplete: expected 214, actual 213";
        "a signer": add("data/5", sequence(&[])) => "CT_KDH, at byte 1378: signerInfos is present";
        "CRL before the certificate": swap("data/3", "data/4") => "CT_KDH, at byte 45: certificates expected, of type CONTEXT-SPECIFIC [0] (constructed), and CONTEXT-SPECIFIC [1] (constructed) found";
        "CRL behind the signers, as printed": swap("data/4", "data/5") => "CT_KDH, at byte 899: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
    }
    KdhCredential in X9_2019Samples {
        "CRL before the signers, as CMS has it": swap("data/4", "data/5") => "CT_KDH, at byte 899: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "no CRL": cut("data/5") => "CT_KDH, at byte 901: crls expected, and nothing follows";
        "two CRLs": twice("data/5/0") => "CT_KDH, at byte 905: 2 of crls, not one";
    }
    KdhCredential in Clover {
        "an empty content, as printed": add("data/2", empty_content()) => "CT_KDH, at byte 41: nothing more expected in encapContentInfo";
        "no CRL": cut("data/4") => "CT_KDH, at byte 895: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
    }
}
