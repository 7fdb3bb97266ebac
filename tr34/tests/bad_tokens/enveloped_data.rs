//! The `EnvelopedData` of a key token.

use good_tokens::{HEADER, der::*};

use crate::change::*;

fn oaep(parameters: &[&[u8]]) -> Vec<u8> {
    algorithm(RSAES_OAEP, &sequence(parameters))
}

/// The hash of the label, under its tag.
fn label_hash(hash: &str, parameters: &[u8]) -> Vec<u8> {
    tagged(0, &[&algorithm(hash, parameters)])
}

/// MGF1 with its hash, under its tag.
fn mask(hash: &str, parameters: &[u8]) -> Vec<u8> {
    tagged(1, &[&algorithm(MGF1, &algorithm(hash, parameters))])
}

/// As printed.
fn untagged() -> Vec<u8> {
    let (hash, mask) = (
        algorithm(SHA_256, NULL),
        algorithm(MGF1, &algorithm(SHA_256, &[])),
    );
    oaep(&[&hash, &mask, &algorithm(P_SPECIFIED, &octets(&[]))])
}

fn tdea(iv_len: usize) -> Vec<u8> {
    algorithm(DES_EDE3_CBC, &octets(&vec![1; iv_len]))
}

fn aes(iv_len: usize) -> Vec<u8> {
    algorithm(AES_128_CBC, &octets(&vec![1; iv_len]))
}

fn ciphertext(len: usize) -> Vec<u8> {
    context(0, false, &[&vec![1; len]])
}

crate::bad_tokens! {
    Enveloped in X9_2019 {
        "nothing": put("", []) => "EnvelopedData, at byte 0: EnvelopedData expected, and nothing follows";
        "in a ContentInfo": rewrite("", |der| sequence(&[&oid(ENVELOPED_DATA), &tagged(0, &[der])])) => "EnvelopedData, at byte 4: version expected, of type INTEGER, and OBJECT IDENTIFIER found";
        "EnvelopedData v2": put("0", integer(2)) => "EnvelopedData, at byte 4: EnvelopedData has version 2";
        "an originator": before("1", tagged(0, &[])) => "EnvelopedData, at byte 7: recipientInfos expected, of type SET, and CONTEXT-SPECIFIC [0] (constructed) found";
        "no recipient": cut("1/0") => "EnvelopedData, at byte 8: 0 of recipientInfos, not one";
        "two recipients": twice("1/0") => "EnvelopedData, at byte 11: 2 of recipientInfos, not one";
        "recipient by key agreement": retag("1/0", 0xA1) => "EnvelopedData, at byte 11: recipientInfos expected, of type SEQUENCE, and CONTEXT-SPECIFIC [1] (constructed) found";
        "recipient v2": put("1/0/0", integer(2)) => "EnvelopedData, at byte 15: KeyTransRecipientInfo has version 2";
        "recipient by key identifier": put("1/0/1", context(0, false, &[&[7; 20]])) => "EnvelopedData, at byte 18: rid expected, of type SEQUENCE, and CONTEXT-SPECIFIC [0] (primitive) found";
        "recipient's serial too long": put("1/0/1/1", integer_of(&[1; 21])) => "EnvelopedData, at byte 18: serial number is not positive or too long";
        "no Ke": cut("1/0/3") => "EnvelopedData, at byte 106: encryptedKey expected, and nothing follows";
        "Ke under RSA-1024": put("1/0/3", octets(&[1; 128])) => "EnvelopedData, at byte 108: encryptedKey has 128 bytes";
        "Ke under RSA-8192": put("1/0/3", octets(&[1; 1024])) => "EnvelopedData, at byte 110: encryptedKey has 1024 bytes";
        "Ke in pieces": rewrite("1/0/3", |der| context(4, true, &[der])) => "EnvelopedData, at byte 110: encryptedKey expected, of type OCTET STRING, and CONTEXT-SPECIFIC [4] (constructed) found";
        "recipient with a field more": add("1/0", NULL) => "EnvelopedData, at byte 370: nothing more expected in KeyTransRecipientInfo";

        "PKCS#1 v1.5": put("1/0/2", algorithm(RSA_ENCRYPTION, NULL)) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "OAEP without parameters": put("1/0/2", algorithm(RSAES_OAEP, &[])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "OAEP with NULL": put("1/0/2", algorithm(RSAES_OAEP, NULL)) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "untagged parameters, as printed": put("1/0/2", untagged()) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "SHA-1 written out, though the default": put("1/0/2", oaep(&[&label_hash(SHA_1, NULL)])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "SHA-256 for the label, SHA-1 in MGF1": put("1/0/2", oaep(&[&label_hash(SHA_256, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "SHA-1 for the label, SHA-256 in MGF1": put("1/0/2", oaep(&[&mask(SHA_256, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "SHA-384 in MGF1": put("1/0/2", oaep(&[&label_hash(SHA_256, &[]), &mask(SHA_384, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "SHA-384": put("1/0/2", oaep(&[&label_hash(SHA_384, &[]), &mask(SHA_384, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "another mask function": put("1/0/2", oaep(&[&label_hash(SHA_256, &[]), &tagged(1, &[&algorithm(P_SPECIFIED, &algorithm(SHA_256, &[]))])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "hash with other parameters": put("1/0/2", oaep(&[&label_hash(SHA_256, &octets(&[1])), &mask(SHA_256, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "the empty label written out": put("1/0/2", oaep(&[&label_hash(SHA_256, &[]), &mask(SHA_256, &[]), &tagged(2, &[&algorithm(P_SPECIFIED, &octets(&[]))])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "a label": put("1/0/2", oaep(&[&label_hash(SHA_256, &[]), &mask(SHA_256, &[]), &tagged(2, &[&algorithm(P_SPECIFIED, &octets(b"label"))])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "mask before the label's hash": swap("1/0/2/1/0", "1/0/2/1/1") => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "OAEP with a byte more": add("1/0/2", [0]) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";

        "content of another type": put("2/0", oid(SIGNED_DATA)) => "EnvelopedData, at byte 373: encryptedContentInfo holds content of type 1.2.840.113549.1.7.2";
        "single DES": put("2/1", algorithm(DES_CBC, &octets(&[1; 8]))) => "EnvelopedData, at byte 384: contentEncryptionAlgorithm or its parameters are not of this profile";
        "AES-192": put("2/1", algorithm(AES_192_CBC, &octets(&[1; 16]))) => "EnvelopedData, at byte 384: contentEncryptionAlgorithm or its parameters are not of this profile";
        "no IV": cut("2/1/1") => "EnvelopedData, at byte 397: IV expected, and nothing follows";
        "IV of 8 bytes, as printed for AES": put("2/1", aes(8)) => "EnvelopedData, at byte 397: IV has 8 bytes";
        "IV of 17 bytes": put("2/1", aes(17)) => "EnvelopedData, at byte 397: IV has 17 bytes";
        "IV not an OCTET STRING": put("2/1/1", integer(1)) => "EnvelopedData, at byte 397: IV expected, of type OCTET STRING, and INTEGER found";
        "TDEA without an IV": put("2/1", algorithm(DES_EDE3_CBC, &[])) => "EnvelopedData, at byte 396: IV expected, and nothing follows";
        "TDEA with an empty IV": put("2/1", tdea(0)) => "EnvelopedData, at byte 396: IV has 0 bytes";
        "TDEA with an IV of a byte less": put("2/1", tdea(7)) => "EnvelopedData, at byte 396: IV has 7 bytes";
        "TDEA with an IV of AES's length": put("2/1", tdea(16)) => "EnvelopedData, at byte 396: IV has 16 bytes";
        "TDEA and a ciphertext of no whole block": both(put("2/1", tdea(8)), put("2/2", ciphertext(140))) => "EnvelopedData, at byte 406: encryptedContent has 140 bytes";
        "TDEA and an empty ciphertext": both(put("2/1", tdea(8)), put("2/2", ciphertext(0))) => "EnvelopedData, at byte 405: encryptedContent has 0 bytes";
        "no ciphertext": cut("2/2") => "EnvelopedData, at byte 414: encryptedContent expected, and nothing follows";
        "ciphertext inside the AlgorithmIdentifier, as in the layout of 2012": both(add("2/1", ciphertext(144)), cut("2/2")) => "EnvelopedData, at byte 416: nothing more expected in contentEncryptionAlgorithm";
        "ciphertext in both places": add("2/1", ciphertext(144)) => "EnvelopedData, at byte 417: nothing more expected in contentEncryptionAlgorithm";
        "ciphertext constructed": put("2/2", context(0, true, &[&octets(&[1; 16])])) => "EnvelopedData, at byte 414: encryptedContent expected, of type CONTEXT-SPECIFIC [0] (primitive), and CONTEXT-SPECIFIC [0] (constructed) found";
        "ciphertext a plain OCTET STRING": retag("2/2", 0x04) => "EnvelopedData, at byte 415: encryptedContent expected, of type CONTEXT-SPECIFIC [0] (primitive), and OCTET STRING found";
        "empty ciphertext": put("2/2", ciphertext(0)) => "EnvelopedData, at byte 414: encryptedContent has 0 bytes";
        "ciphertext of no whole block": put("2/2", ciphertext(136)) => "EnvelopedData, at byte 415: encryptedContent has 136 bytes";
        "encryptedContentInfo with a field more": add("2", NULL) => "EnvelopedData, at byte 562: nothing more expected in encryptedContentInfo";
        "unprotected attributes": add("", tagged(1, &[&attribute(DATA, &[&octets(HEADER.as_bytes())])])) => "EnvelopedData, at byte 562: nothing more expected in EnvelopedData";
    }
    Enveloped in X9_2019Samples {
        "tagged OAEP parameters": put("1/0/2", oaep(&[&label_hash(SHA_256, NULL), &mask(SHA_256, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "OAEP with SHA-1": put("1/0/2", oaep(&[])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "untagged parameters with a label": put("1/0/2/1/2", algorithm(P_SPECIFIED, &octets(b"label"))) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "AES with an IV of 7 bytes": put("2/1", aes(7)) => "EnvelopedData, at byte 408: IV has 7 bytes";
        "TDEA with an IV of AES's length": put("2/1", tdea(16)) => "EnvelopedData, at byte 407: IV has 16 bytes";
        "ciphertext nowhere": cut("2/2") => "EnvelopedData, at byte 425: encryptedContent expected, and nothing follows";
        "ciphertext in both places": add("2/1", ciphertext(144)) => "EnvelopedData, at byte 575: nothing more expected in encryptedContentInfo";
    }
    Enveloped in Aws2012 {
        "ciphertext where CMS has it": both(cut("2/1/2"), add("2", ciphertext(144))) => "EnvelopedData, at byte 426: encryptedContent expected, and nothing follows";
        "AES with an IV of 8 bytes, as printed": put("2/1/1", octets(&[1; 8])) => "EnvelopedData, at byte 409: IV has 8 bytes";
        "two ciphertexts": twice("2/1/2") => "EnvelopedData, at byte 576: nothing more expected in contentEncryptionAlgorithm";
    }
    Enveloped in Clover {
        "MGF1's hash without NULL": put("1/0/2", oaep(&[&label_hash(SHA_256, NULL), &mask(SHA_256, &[])])) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "untagged parameters, as printed": put("1/0/2", untagged()) => "EnvelopedData, at byte 50: keyEncryptionAlgorithm or its parameters are not of this profile";
        "AES with an IV of 8 bytes, as printed": put("2/1", aes(8)) => "EnvelopedData, at byte 399: IV has 8 bytes";
    }
}
