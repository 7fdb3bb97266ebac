//! The object identifiers of this profile.

use const_oid::ObjectIdentifier;
pub(crate) use const_oid::db::{
    rfc2985::PKCS_9_AT_RANDOM_NONCE as RANDOM_NONCE,
    rfc5911::{
        DES_EDE_3_CBC as DES_EDE3_CBC, ID_AES_128_CBC as AES_128_CBC,
        ID_AES_256_CBC as AES_256_CBC, ID_CONTENT_TYPE as CONTENT_TYPE, ID_DATA as DATA,
        ID_ENVELOPED_DATA as ENVELOPED_DATA, ID_MESSAGE_DIGEST as MESSAGE_DIGEST,
        ID_SIGNED_DATA as SIGNED_DATA, ID_SIGNING_TIME as SIGNING_TIME,
    },
    rfc5912::{
        ID_MGF_1 as MGF1, ID_P_SPECIFIED as P_SPECIFIED, ID_RSAES_OAEP as RSAES_OAEP,
        ID_SHA_256 as SHA_256, RSA_ENCRYPTION, SHA_256_WITH_RSA_ENCRYPTION,
    },
};

/// TR-34 carries the key block header as an attribute of type id-data.
pub(crate) const KEY_BLOCK_HEADER: ObjectIdentifier = DATA;

/// RFC 6211: the attribute `CMSAlgorithmProtection`.
pub(crate) const ALGORITHM_PROTECTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52");
