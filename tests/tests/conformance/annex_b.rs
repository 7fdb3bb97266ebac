//! TR-34:2019 Annex B.

use der::{Decode as _, Encode as _};
use rsa::Oaep;
use sha1::Sha1;
use sha2::Sha256;
use system_tests::hostile::open_key_block;
use tr34::{
    CaRebindToken, CaUnbindToken, EnvelopedKeyBlock, KdhCredentialToken, KdhRebindToken,
    KdhUnbindToken, KeyToken, Profile,
};
use x509_cert::{certificate::Rfc5280, crl::CertificateList};

use super::samples::{Samples, with};

const PROFILE: Profile = Profile::X9_2019Samples;

/// Ke as printed for the sample under TDEA.
const TDEA_KE: [u8; 24] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10\
    \xff\xee\xdd\xcc\xbb\xaa\x99\x88";

/// Ke as printed for the sample under AES.
const AES_KE: [u8; 16] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10";

#[test]
fn each_signature_is_that_of_its_signer_and_of_nobody_else() {
    with("tr34-2019", |samples| {
        let key_token = |file: &str| {
            let token = KeyToken::parse(PROFILE, &samples.read(file)).unwrap();
            token.signed_by().clone()
        };
        let ubt_kdh = KdhUnbindToken::parse(PROFILE, &samples.read("b.14-ubt-kdh.der")).unwrap();
        let rbt_kdh = KdhRebindToken::parse(PROFILE, &samples.read("b.11-rbt-kdh.der")).unwrap();
        let ubt_ca = CaUnbindToken::parse(PROFILE, &samples.read("b.13-ubt-ca.der")).unwrap();
        let rbt_ca = CaRebindToken::parse(PROFILE, &samples.read("b.10-rbt-ca.der")).unwrap();

        let kdh_1 = samples.certified("b.2.1.5-kdh-1.cert.pem");
        let ca_krd = samples.certified("b.2.1.4-ca-krd.cert.pem");
        // The first prints are tokens in their own right: signed over what they digest.
        let by_kdh = [
            key_token("b.8-one-pass-key-token.der"),
            key_token("b.8-one-pass-key-token-original-malformed.der"),
            key_token("b.9-two-pass-key-token.der"),
            key_token("b.9-two-pass-key-token-original-malformed.der"),
            ubt_kdh.signed_by().clone(),
            rbt_kdh.signed_by().clone(),
        ];
        let by_ca = [ubt_ca.signed_by().clone(), rbt_ca.signed_by().clone()];
        for part in &by_kdh {
            assert!(kdh_1.signed(part), "{part:?}");
            // Of the same serial number, by another issuer.
            assert!(!ca_krd.signed(part), "{part:?}");
        }
        for part in &by_ca {
            assert!(ca_krd.signed(part), "{part:?}");
            assert!(!kdh_1.signed(part), "{part:?}");
        }
    });
}

#[test]
fn the_revocation_list_is_that_of_the_cas_credential_and_lists_three() {
    with("tr34-2019", |samples| {
        let der = samples.read("b.2.1.3-ca-kdh-crl.der");
        let crl = CertificateList::<Rfc5280>::from_der(&der).unwrap();
        assert_eq!(crl.to_der().unwrap(), der);
        let ca = samples.certified("b.2.1.2-ca-kdh.cert.pem");
        let message = crl.tbs_cert_list.to_der().unwrap();
        assert!(ca.verifies(&message, crl.signature.raw_bytes()));
        let entries = crl.tbs_cert_list.revoked_certificates.unwrap();
        let serials: Vec<_> = entries
            .iter()
            .map(|entry| {
                let serial = hex::encode(entry.serial_number.as_bytes());
                (serial, entry.revocation_date.to_string())
            })
            .collect();
        let expected = [
            ("3400000008", "2010-11-02T17:28:13Z"),
            ("340000000a", "2010-11-02T17:31:46Z"),
            ("340000000b", "2010-11-02T17:33:25Z"),
        ];
        assert_eq!(
            serials,
            expected.map(|(serial, at)| (serial.into(), at.into()))
        );
        // It has no number, by which a list is told from an older one, so no terminal of ours takes it.
        let list = pki::Crl::from_der(&der).unwrap();
        assert_eq!(list.number(), None);
        let token = KdhCredentialToken::parse(PROFILE, &samples.read("b.6-ct-kdh.der")).unwrap();
        assert_eq!(token.crl(), der);
    });
}

#[test]
fn the_contents_open_with_the_printed_ke() {
    with("tr34-2019", |samples| {
        for (file, ke, block) in [
            (
                "b.2.2.3.1-tdea-enveloped-data.der",
                &TDEA_KE[..],
                "b.2.2.2.1-tdea-key-block.der",
            ),
            (
                "b.2.2.3.2-aes-enveloped-data.der",
                &AES_KE[..],
                "b.2.2.2.3-tdea-key-block.der",
            ),
        ] {
            let enveloped = enveloped(samples, file);
            let opened = open_key_block(&enveloped, ke).unwrap();
            assert_eq!(opened, samples.read(block), "{file}");
        }
        // What the key tokens carry is the first of them.
        for file in ["b.8-one-pass-key-token.der", "b.9-two-pass-key-token.der"] {
            let token = KeyToken::parse(PROFILE, &samples.read(file)).unwrap();
            let sample = enveloped(samples, "b.2.2.3.1-tdea-enveloped-data.der");
            assert_eq!(token.enveloped(), &sample, "{file}");
        }
    });
}

/// The printed encryptedKey is the terminal's, and is no OAEP: not with the hash that it names, nor with
/// the other, for the label or for the mask. There is nothing to fall back to.
#[test]
fn the_encrypted_keys_do_not_decode_as_oaep() {
    with("tr34-2019", |samples| {
        let krd = samples.private_key("b.2.1.7-krd-1.key.pem");
        for file in [
            "b.2.2.3.1-tdea-enveloped-data.der",
            "b.2.2.3.2-aes-enveloped-data.der",
        ] {
            let enveloped = enveloped(samples, file);
            let encrypted = enveloped.encrypted_key();
            krd.decrypt(Oaep::<Sha256>::new(), encrypted).unwrap_err();
            krd.decrypt(Oaep::<Sha1>::new(), encrypted).unwrap_err();
            krd.decrypt(Oaep::<Sha256, Sha1>::new_with_mgf_hash(), encrypted)
                .unwrap_err();
            krd.decrypt(Oaep::<Sha1, Sha256>::new_with_mgf_hash(), encrypted)
                .unwrap_err();
        }
    });
}

fn enveloped(samples: &Samples, file: &str) -> EnvelopedKeyBlock {
    EnvelopedKeyBlock::parse(PROFILE, &samples.read(file)).unwrap()
}
