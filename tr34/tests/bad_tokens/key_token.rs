//! `KT_KDH`, one-pass and two-pass: what is round the `EnvelopedData`, and that it is read where it stands.

use good_tokens::{CERTIFICATE, CRL, HEADER, NONCE, der::*, enveloped};
use tr34::Profile;

use crate::change::*;

/// Midnight of 2026-01-01.
const UTC_TIME: &[u8] = b"\x17\x0D260101000000Z";

crate::bad_tokens! {
    TwoPassKey in X9_2019 {
        "ContentInfo of another type": put("0", oid(ENVELOPED_DATA)) => "KT_KDH, at byte 4: ContentInfo holds content of type 1.2.840.113549.1.7.3";
        "ContentInfo with a field more": add("", NULL) => "KT_KDH, at byte 1581: nothing more expected in ContentInfo";
        "SignedData v1, as printed": put("data/0", integer(1)) => "KT_KDH, at byte 23: SignedData has version 1";
        "SignedData v4": put("data/0", integer(4)) => "KT_KDH, at byte 23: SignedData has version 4";
        "no version": cut("data/0") => "KT_KDH, at byte 23: version expected, of type INTEGER, and SET found";
        "version in two bytes": put("data/0", integer_of(&[0, 3])) => "KT_KDH, at byte 23: version is not the DER expected: ASN.1 INTEGER not canonically encoded as DER";
        "no digest algorithm": cut("data/1/0") => "KT_KDH, at byte 28: 0 of digestAlgorithms, not one";
        "two digest algorithms": twice("data/1/0") => "KT_KDH, at byte 28: 2 of digestAlgorithms, not one";
        "another digest": put("data/1/0", algorithm(SHA_384, &[])) => "KT_KDH, at byte 28: digestAlgorithms or its parameters are not of this profile";
        "digest with parameters": put("data/1/0", algorithm(SHA_256, NULL)) => "KT_KDH, at byte 28: digestAlgorithms or its parameters are not of this profile";
        "digest by its name alone": put("data/1/0", oid(SHA_256)) => "KT_KDH, at byte 28: digestAlgorithms expected, of type SEQUENCE, and OBJECT IDENTIFIER found";
        "content of another type": put("data/2/0", oid(DATA)) => "KT_KDH, at byte 45: encapContentInfo holds content of type 1.2.840.113549.1.7.1";
        "no content": cut("data/2/1") => "KT_KDH, at byte 54: eContent expected, and nothing follows";
        "content bare, not in an OCTET STRING": put("content", enveloped().to_der(Profile::X9_2019).unwrap()) => "KT_KDH, at byte 60: eContent expected, of type OCTET STRING, and SEQUENCE found";
        "content in pieces": rewrite("content", |der| context(0, true, &[der])) => "KT_KDH, at byte 60: eContent expected, of type OCTET STRING, and CONTEXT-SPECIFIC [0] (constructed) found";
        "the KDH's certificate": before("data/3", tagged(0, &[CERTIFICATE])) => "KT_KDH, at byte 626: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and CONTEXT-SPECIFIC [0] (constructed) found";
        "an empty set of certificates": before("data/3", tagged(0, &[])) => "KT_KDH, at byte 626: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and CONTEXT-SPECIFIC [0] (constructed) found";
        "no CRL": cut("data/3") => "KT_KDH, at byte 626: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "an empty set of CRLs": cut("data/3/0") => "KT_KDH, at byte 628: 0 of crls, not one";
        "two CRLs": twice("data/3/0") => "KT_KDH, at byte 630: 2 of crls, not one";
        "a certificate for a CRL": put("data/3/0", CERTIFICATE) => "KT_KDH, at byte 630: crls is not the DER expected: unexpected ASN.1 DER tag: expected INTEGER, got CONTEXT-SPECIFIC [0] (constructed)";
        "revocation data of another kind": rewrite("data/3/0", |der| tagged(1, &[der])) => "KT_KDH, at byte 630: crls is not the DER expected: unexpected ASN.1 DER tag: expected SEQUENCE, got CONTEXT-SPECIFIC [1] (constructed)";
        "an unknown field": before("data/4", tagged(2, &[NULL])) => "KT_KDH, at byte 1105: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [2] (constructed) found";
        "no signer": cut("signer") => "KT_KDH, at byte 1107: 0 of signerInfos, not one";
        "two signers": twice("signer") => "KT_KDH, at byte 1109: 2 of signerInfos, not one";
        "a field behind the signers": add("data", NULL) => "KT_KDH, at byte 1581: nothing more expected in SignedData";

        "SignerInfo v3": put("signer/0", integer(3)) => "KT_KDH, at byte 1113: SignerInfo has version 3";
        "signer by key identifier": put("signer/1", context(0, false, &[&[7; 20]])) => "KT_KDH, at byte 1116: sid expected, of type SEQUENCE, and CONTEXT-SPECIFIC [0] (primitive) found";
        "signer's serial zero": put("signer/1/1", integer(0)) => "KT_KDH, at byte 1116: serial number is not positive or too long";
        "signer's issuer empty": put("signer/1/0", sequence(&[])) => "KT_KDH, at byte 1116: issuer has 0 bytes";
        "signer's issuer no name": put("signer/1/0", sequence(&[NULL])) => "KT_KDH, at byte 1116: issuer is not the DER expected: unexpected ASN.1 DER tag: expected SET, got NULL";
        "another digest of the signer": put("signer/2", algorithm(SHA_1, &[])) => "KT_KDH, at byte 1148: digestAlgorithm or its parameters are not of this profile";
        "digest of the signer with parameters": put("signer/2", algorithm(SHA_256, NULL)) => "KT_KDH, at byte 1148: digestAlgorithm or its parameters are not of this profile";
        "no signed attributes": cut("attrs") => "KT_KDH, at byte 1161: signedAttrs expected, of type CONTEXT-SPECIFIC [0] (constructed), and SEQUENCE found";
        "signed attributes under another tag": retag("attrs", 0xA1) => "KT_KDH, at byte 1161: signedAttrs expected, of type CONTEXT-SPECIFIC [0] (constructed), and CONTEXT-SPECIFIC [1] (constructed) found";
        "signed attributes under the tag that is signed": retag("attrs", 0x31) => "KT_KDH, at byte 1161: signedAttrs expected, of type CONTEXT-SPECIFIC [0] (constructed), and SET found";
        "signature algorithm with its digest": put("signer/4", algorithm(SHA_256_WITH_RSA, NULL)) => "KT_KDH, at byte 1306: signatureAlgorithm or its parameters are not of this profile";
        "signature algorithm PSS": put("signer/4", algorithm(RSASSA_PSS, &sequence(&[]))) => "KT_KDH, at byte 1306: signatureAlgorithm or its parameters are not of this profile";
        "signature algorithm without NULL": put("signer/4", algorithm(RSA_ENCRYPTION, &[])) => "KT_KDH, at byte 1306: signatureAlgorithm or its parameters are not of this profile";
        "no signature": cut("signer/5") => "KT_KDH, at byte 1319: signature expected, and nothing follows";
        "empty signature": put("signer/5", octets(&[])) => "KT_KDH, at byte 1319: signature has 0 bytes";
        "signature of RSA-1024": put("signer/5", octets(&[1; 128])) => "KT_KDH, at byte 1321: signature has 128 bytes";
        "signature of RSA-8192": put("signer/5", octets(&[1; 1024])) => "KT_KDH, at byte 1321: signature has 1024 bytes";
        "signature a BIT STRING": retag("signer/5", 0x03) => "KT_KDH, at byte 1321: signature expected, of type OCTET STRING, and BIT STRING found";
        "unsigned attributes": add("signer", tagged(1, &[&attribute(DATA, &[NULL])])) => "KT_KDH, at byte 1581: nothing more expected in SignerInfo";
        "an empty set of unsigned attributes": add("signer", tagged(1, &[])) => "KT_KDH, at byte 1581: nothing more expected in SignerInfo";

        "no attribute": put("attrs", tagged(0, &[])) => "KT_KDH, at byte 1163: 0 of contentType, not one";
        "no contentType": cut("attrs/@contentType") => "KT_KDH, at byte 1163: 0 of contentType, not one";
        "no header": cut("attrs/@header") => "KT_KDH, at byte 1163: 0 of key block header, not one";
        "neither nonce nor time": cut("attrs/@nonce") => "KT_KDH, at byte 1163: 0 of randomNonce or signingTime, not one";
        "no messageDigest": cut("attrs/@messageDigest") => "KT_KDH, at byte 1163: 0 of messageDigest, not one";
        "the nonce twice": twice("attrs/@nonce") => "KT_KDH, at byte 1257: 2 of randomNonce, not one";
        "the digest twice": twice("attrs/@messageDigest") => "KT_KDH, at byte 1306: 2 of messageDigest, not one";
        "two headers": before("attrs/@header", attribute(DATA, &[&octets(b"A0256K0TB00E0000")])) => "KT_KDH, at byte 1223: 2 of key block header, not one";
        "two values of the nonce": both(twice("attrs/@nonce/1/0"), swap("attrs/@nonce", "attrs/@messageDigest")) => "KT_KDH, at byte 1288: 2 of randomNonce, not one";
        "two values of the digest": twice("attrs/@messageDigest/1/0") => "KT_KDH, at byte 1272: 2 of messageDigest, not one";
        "no value of the content type": cut("attrs/@contentType/1/0") => "KT_KDH, at byte 1179: 0 of contentType, not one";
        "signingTime beside the nonce": before("attrs/@header", attribute(SIGNING_TIME, &[UTC_TIME])) => "KT_KDH, at byte 1164: 2 of randomNonce or signingTime, not one";
        "algorithm protection": before("attrs/@header", attribute(ALGORITHM_PROTECTION, &[&sequence(&[])])) => "KT_KDH, at byte 1192: an attribute of type 1.2.840.113549.1.9.52 is not for this token";
        "nonce before header, as printed": swap("attrs/@header", "attrs/@nonce") => "KT_KDH, at byte 1164: signedAttrs are not in the order of this profile";
        "digest first": swap("attrs/@contentType", "attrs/@messageDigest") => "KT_KDH, at byte 1164: signedAttrs are not in the order of this profile";
        "contentType of another content": put("attrs/@contentType/1/0", oid(DATA)) => "KT_KDH, at byte 1179: contentType holds content of type 1.2.840.113549.1.7.1";
        "contentType not an OID": put("attrs/@contentType/1/0", octets(&[1; 9])) => "KT_KDH, at byte 1179: contentType expected, of type OBJECT IDENTIFIER, and OCTET STRING found";
        "nonce of 8 bytes": both(put("attrs/@nonce/1/0", octets(&[1; 8])), swap("attrs/@nonce", "attrs/@header")) => "KT_KDH, at byte 1206: randomNonce has 8 bytes";
        "nonce of 17 bytes": put("attrs/@nonce/1/0", octets(&[1; 17])) => "KT_KDH, at byte 1239: randomNonce has 17 bytes";
        "nonce not an OCTET STRING": retag("attrs/@nonce/1/0", 0x0C) => "KT_KDH, at byte 1239: randomNonce expected, of type OCTET STRING, and UTF8String found";
        "header with an unknown algorithm": put("attrs/@header/1/0", octets(b"D0000K0ZB00E0000")) => "KT_KDH, at byte 1205: key block header has an unknown value of algorithm";
        "header with an unknown usage": put("attrs/@header/1/0", octets(b"D0000ZZAB00E0000")) => "KT_KDH, at byte 1205: key block header has an unknown value of key usage";
        "header too short": put("attrs/@header/1/0", octets(b"D0000K0AB00E000")) => "KT_KDH, at byte 1205: key block header has 15 characters, not 16";
        "header not ASCII": put("attrs/@header/1/0", octets(&[0x80; 16])) => "KT_KDH, at byte 1205: key block header is not ASCII";
        "digest of another algorithm": put("attrs/@messageDigest/1/0", octets(&[1; 48])) => "KT_KDH, at byte 1272: messageDigest has 48 bytes";
        "digest of other bytes": put("attrs/@messageDigest/1/0", octets(&[1; 32])) => "KT_KDH, at byte 1161: messageDigest is not the digest of the content";
        "bytes that are no attribute": add("attrs", integer(1)) => "KT_KDH, at byte 1306: signedAttrs expected, of type SEQUENCE, and INTEGER found";
        "an attribute with a field more": add("attrs/@contentType", NULL) => "KT_KDH, at byte 1190: nothing more expected in signedAttrs";
        "an attribute cut off": rewrite("attrs/@messageDigest", first(20)) => "KT_KDH, at byte 1256: signedAttrs is not the DER expected: ASN.1 DER message is incomplete: expected 49, actual 20";
        "signedAttrs of the longest length": rewrite("attrs", |der| [&[0xA0, 0x83, 0xFF, 0xFF, 0xFF], &der[3..]].concat()) => "KT_KDH, at byte 1161: signedAttrs is not the DER expected: ASN.1 DER message is incomplete: expected 16777220, actual 422";

        "content without its SEQUENCE header": put("content", octets(&enveloped().to_der(Profile::X9_2019).unwrap()[4..])) => "KT_KDH, at byte 1157: messageDigest is not the digest of the content";
        "content empty": content(cut("0")) => "EnvelopedData, at byte 58: EnvelopedData expected, and nothing follows";
        "content twice": content(twice("0")) => "EnvelopedData, at byte 626: nothing more expected in EnvelopedData";
        "content with a byte behind it": content(add("", [0])) => "EnvelopedData, at byte 626: nothing more expected in EnvelopedData";
        "content of version 2": content(put("0/0", integer(2))) => "EnvelopedData, at byte 68: EnvelopedData has version 2";
        "content under PKCS#1 v1.5": content(put("0/1/0/2", algorithm(RSA_ENCRYPTION, NULL))) => "EnvelopedData, at byte 114: keyEncryptionAlgorithm or its parameters are not of this profile";
        "content for two terminals": content(twice("0/1/0")) => "EnvelopedData, at byte 75: 2 of recipientInfos, not one";
        "content changed after it was signed": put("content/0/0", integer(2)) => "KT_KDH, at byte 1161: messageDigest is not the digest of the content";
        "longer than a token may be": content(put("0/2/2", context(0, false, &[&[0; tr34::MAX_TOKEN_LEN]]))) => "KT_KDH, at byte 0: 66984 bytes, more than 65536";
    }
    OnePassKey in X9_2019 {
        "no signingTime": cut("attrs/@time") => "KT_KDH, at byte 1163: 0 of randomNonce or signingTime, not one";
        "two signing times": twice("attrs/@time") => "KT_KDH, at byte 1220: 2 of signingTime, not one";
        "signingTime without seconds": put("attrs/@time/1/0", b"\x17\x0B2601010000Z") => "KT_KDH, at byte 1205: signingTime is not written as RFC 5652 has it";
        "signingTime in another zone": both(put("attrs/@time/1/0", b"\x17\x11260101000000+0100"), swap("attrs/@time", "attrs/@header")) => "KT_KDH, at byte 1238: signingTime is not written as RFC 5652 has it";
        "signingTime with fractions": both(put("attrs/@time/1/0", b"\x18\x1120260101000000.5Z"), swap("attrs/@time", "attrs/@header")) => "KT_KDH, at byte 1238: signingTime is not written as RFC 5652 has it";
        "signingTime on no day": put("attrs/@time/1/0", b"\x17\x0D260231000000Z") => "KT_KDH, at byte 1205: signingTime is not written as RFC 5652 has it";
        "GeneralizedTime before 2050": put("attrs/@time/1/0", b"\x18\x0F20260101000000Z") => "KT_KDH, at byte 1205: signingTime is not written as RFC 5652 has it";
        "signingTime no time": both(put("attrs/@time/1/0", NULL), swap("attrs/@time", "attrs/@contentType")) => "KT_KDH, at byte 1178: signingTime is not written as RFC 5652 has it";
        "no value of the time": both(cut("attrs/@time/1/0"), swap("attrs/@time", "attrs/@contentType")) => "KT_KDH, at byte 1178: 0 of signingTime, not one";
        "header before the time": swap("attrs/@time", "attrs/@header") => "KT_KDH, at byte 1164: signedAttrs are not in the order of this profile";
        "nonce beside the time": before("attrs/@messageDigest", attribute(RANDOM_NONCE, &[&octets(&NONCE)])) => "KT_KDH, at byte 1164: 2 of randomNonce or signingTime, not one";
    }
    TwoPassKey in X9_2019AnnexD {
        "SignedData v1, as printed": put("data/0", integer(1)) => "KT_KDH, at byte 23: SignedData has version 1";
        "no CRL": cut("data/3") => "KT_KDH, at byte 626: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
    }
    TwoPassKey in X9_2019Samples {
        "SignedData v3, as CMS has it": put("data/0", integer(3)) => "KT_KDH, at byte 23: SignedData has version 3";
        "attributes in the order of DER": swap("attrs/@header", "attrs/@nonce") => "KT_KDH, at byte 1175: signedAttrs are not in the order of this profile";
        "no CRL": cut("data/3") => "KT_KDH, at byte 637: crls expected, of type CONTEXT-SPECIFIC [1] (constructed), and SET found";
        "tagged OAEP parameters": content(put("0/1/0/2", algorithm(RSAES_OAEP, &sequence(&[])))) => "EnvelopedData, at byte 114: keyEncryptionAlgorithm or its parameters are not of this profile";
        "two ciphertexts": content(add("0/2/1", context(0, false, &[&[0; 16]]))) => "EnvelopedData, at byte 508: nothing more expected in encryptedContentInfo";
        "nonce of 7 bytes": put("attrs/@nonce/1/0", octets(&[1; 7])) => "KT_KDH, at byte 1217: randomNonce has 7 bytes";
    }
    TwoPassKey in Aws2012 {
        "a CRL": before("data/3", tagged(1, &[CRL])) => "KT_KDH, at byte 634: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "nonce of 16 bytes": put("attrs/@nonce/1/0", octets(&NONCE)) => "KT_KDH, at byte 735: randomNonce has 16 bytes";
        "content with its SEQUENCE header": refill("content", |inside| sequence(&[inside])) => "KT_KDH, at byte 694: messageDigest is not the digest of the content";
        "content with its SEQUENCE header, and digested so": content(refill("", |inside| sequence(&[inside]))) => "EnvelopedData, at byte 64: version expected, of type INTEGER, and SEQUENCE found";
        "attributes in another order": swap("attrs/@header", "attrs/@messageDigest") => "KT_KDH, at byte 693: signedAttrs are not in the order of this profile";
        "signingTime beside the nonce": before("attrs/@header", attribute(SIGNING_TIME, &[UTC_TIME])) => "KT_KDH, at byte 693: 2 of randomNonce or signingTime, not one";
    }
    OnePassKey in Aws2012 {
        "header before the time": swap("attrs/@time", "attrs/@header") => "KT_KDH, at byte 693: signedAttrs are not in the order of this profile";
    }
    TwoPassKey in Clover {
        "no signingTime beside the nonce": cut("attrs/@time") => "KT_KDH, at byte 687: 0 of signingTime, not one";
        "no algorithm protection": cut("attrs/@protection") => "KT_KDH, at byte 687: 0 of CMSAlgorithmProtection, not one";
        "algorithm protection of another signature": put("attrs/@protection/1/0", sequence(&[&algorithm(SHA_256, &[]), &tagged(1, &[&oid(RSA_ENCRYPTION), NULL])])) => "KT_KDH, at byte 825: CMSAlgorithmProtection or its parameters are not of this profile";
        "signature algorithm without its digest": put("signer/4", algorithm(RSA_ENCRYPTION, NULL)) => "KT_KDH, at byte 904: signatureAlgorithm or its parameters are not of this profile";
        "a CRL": before("data/3", tagged(1, &[CRL])) => "KT_KDH, at byte 628: signerInfos expected, of type SET, and CONTEXT-SPECIFIC [1] (constructed) found";
        "neither nonce nor header": both(cut("attrs/@nonce"), cut("attrs/@header")) => "KT_KDH, at byte 687: 0 of key block header, not one";
        "header in lower case": put("attrs/@header/1/0", octets(HEADER.to_lowercase().as_bytes())) => "KT_KDH, at byte 758: key block header has an unknown value of version id";
    }
}
