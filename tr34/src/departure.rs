//! Where a profile departs from sound CMS, or from the samples as corrected: for people who look at a
//! token of it.

use crate::{
    Profile, TokenKind,
    profile::{
        AttributeOrder, CiphertextPlace, CredentialCrl, Embedding, KeyBlockForm, OaepForm,
        SignedDataVersion,
    },
};

/// One point in which tokens of a profile differ from those of the default one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// What is so.
    pub what: &'static str,
    /// What says how it should be.
    pub clause: &'static str,
}

impl Profile {
    /// What is unusual about this profile's tokens of this kind. Whether a given token has the point may
    /// depend on its values: attributes in the printed order can be in DER's order as well.
    pub fn departures(self, kind: TokenKind) -> Vec<Departure> {
        use TokenKind as T;
        let layout = self.layout();
        let by_kdh = matches!(kind, T::KeyToken | T::KdhUnbind | T::KdhRebind);
        let signed = by_kdh || matches!(kind, T::CaUnbind | T::CaRebind);
        let id_data = matches!(kind, T::KdhUnbind | T::CaUnbind);
        let attributes = signed && (kind != T::CaUnbind || layout.ca_unbind_attributes);
        let rebind = matches!(kind, T::KdhRebind | T::CaRebind);
        let enveloped = matches!(kind, T::KeyToken | T::EnvelopedData);
        let credential = matches!(kind, T::KrdCredential | T::KdhCredential);
        let points = [
            (
                signed && !id_data && matches!(layout.signed_data_version, SignedDataVersion::One),
                "SignedData has version 1 over content that is not id-data",
                "RFC 5652 5.1: version 3",
            ),
            (
                attributes && layout.attribute_order == AttributeOrder::Printed,
                "the signed attributes stand in the printed order, not in DER's",
                "RFC 5652 5.3, X.690 11.6",
            ),
            (
                by_kdh && layout.always_signing_time,
                "a signing time stands beside the nonce",
                "TR-34 B.9: one-pass tokens have a signing time, two-pass tokens a nonce",
            ),
            (
                attributes && layout.algorithm_protection,
                "the signed attributes repeat the algorithms",
                "RFC 6211; not in the samples of TR-34",
            ),
            (
                kind == T::CaUnbind && layout.ca_unbind_attributes,
                "the unbind token of the CA has signed attributes",
                "TR-34 B.13: the signature is over the content",
            ),
            (
                by_kdh && !layout.crl,
                "the token brings no revocation list",
                "TR-34 B.8, B.9, B.11, B.14: the CRL of CA_KDH",
            ),
            (
                kind == T::KdhCredential && layout.credential_crl == CredentialCrl::AfterSigners,
                "the revocation list stands behind the signers",
                "RFC 5652 5.1",
            ),
            (
                credential && !layout.credential_content,
                "the credential has no content at all",
                "TR-34 B.6, B.7: an empty one; RFC 5652 5.2 allows both",
            ),
            (
                kind == T::KeyToken && layout.envelope == Embedding::Content,
                "the EnvelopedData lacks its tag and length",
                "RFC 5652 5.2, 6.1; the rule of TR-34:2012",
            ),
            (
                rebind && layout.new_credential == Embedding::Content,
                "the inner SignedData lacks its tag and length",
                "RFC 5652 5.2, as printed in TR-34 B.10 and B.11",
            ),
            (
                rebind && layout.new_credential_crls,
                "the inner SignedData has an empty set of revocation lists",
                "RFC 5652 5.1: left out",
            ),
            (
                enveloped && layout.ciphertext[0] == CiphertextPlace::InAlgorithm,
                "the ciphertext stands in the algorithm identifier",
                "RFC 5652 6.1; the rule of TR-34:2012",
            ),
            (
                enveloped && layout.oaep == OaepForm::Untagged,
                "the parameters of RSAES-OAEP lack their tags",
                "RFC 4055 4.1; a library that takes them may fall back to PKCS#1 v1.5",
            ),
            (
                kind == T::KeyBlock && layout.key_block == KeyBlockForm::OctetString,
                "the key block has version 0 and its header as an OCTET STRING",
                "TR-34 Annex D, against the samples",
            ),
        ];
        points
            .into_iter()
            .filter(|(is_so, ..)| *is_so)
            .map(|(_, what, clause)| Departure { what, clause })
            .collect()
    }
}
